"""A source distribution of llama-cpp-python that has nothing to compile: what it installs is the real one by another
path, or a package that can't be loaded."""

from __future__ import annotations

import io
import tarfile
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

VERSION = version("llama-cpp-python")
NAME = f"llama_cpp_python-{VERSION}"
METADATA = f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {VERSION}\n"
BACKEND = f"""
import pathlib, zipfile
INFO = "{NAME}.dist-info"
METADATA = {METADATA!r}
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder) / INFO
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    return INFO
def get_requires_for_build_wheel(config_settings=None): return []
def build_wheel(folder, *rest):
    name = "{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.writestr("llama_cpp/__init__.py", pathlib.Path("package.py").read_text())
        wheel.writestr(f"{{INFO}}/METADATA", METADATA)
        wheel.writestr(f"{{INFO}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{INFO}}/RECORD", "")
    return name
"""
BROKEN = 'raise ImportError("libnothing.so.1 is not there")\n'


def working() -> str:
    """The package whose modules are those of the one that is installed, with its C functions alone."""
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    functions = "{name: value for name, value in vars(llama_cpp).items() if not name.startswith('__')}"
    return f"""\
__path__, __version__ = [{str(Path(spec.origin).parent)!r}], {VERSION!r}
from llama_cpp import llama_cpp
globals().update({functions})
"""


def distribution(folder: Path, package: str, *, tool: str | None = None) -> Path:
    """In ``folder``; what it installs is ``package``, the text of the package's one module. With ``tool``, pip installs
    that first, as it does what compiles."""
    folder.mkdir(exist_ok=True)
    archive = folder / f"{NAME}.tar.gz"
    project = f'[build-system]\nrequires = {[tool] if tool else []}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    if tool:
        _wheel(folder, tool)
    files = {"PKG-INFO": METADATA, "pyproject.toml": project, "backend.py": BACKEND, "package.py": package}
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))
    return archive


def _wheel(folder: Path, name: str) -> None:
    """An empty package."""
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
