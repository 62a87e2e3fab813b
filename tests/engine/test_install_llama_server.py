"""Compiling llama-server: real pip and real cmake, with a source distribution that has next to nothing to compile."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from llmctl import paths
from llmctl.engine.install import llama_server
from llmctl.engine.install.compile import compiled
from llmctl.engine.llama_server import programs
from llmctl.engine.warm.process import started
from llmctl.errors import EngineError, IntegrityError, ResourceError
from llmctl.types.engine import ServerSource
from llmctl.types.listener import SilentListener
from tests.fakes.command import ROOT

VERSION = version("llama-cpp-python")
NAME = f"llama_cpp_python-{VERSION}"
LLAMA = f"{NAME}/vendor/llama.cpp"
BACKEND = f"""
import pathlib
def _metadata(folder):
    info = pathlib.Path(folder) / "{NAME}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: {VERSION}\\n")
    return info.name
def prepare_metadata_for_build_wheel(folder, config_settings=None): return _metadata(folder)
def get_requires_for_build_wheel(config_settings=None): return []
def build_wheel(*arguments): raise SystemExit("nothing of it is built")
"""
SERVER = 'extern "C" const char * llama_print_system_info();\n#include <cstdio>\nint main() '
SOURCES = {
    f"{NAME}/PKG-INFO": f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {VERSION}\n",
    f"{NAME}/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    f"{NAME}/backend.py": BACKEND,
    f"{LLAMA}/CMakeLists.txt": "message(FATAL_ERROR all of llama.cpp would be compiled)",
    f"{LLAMA}/cmake/common.cmake": "",
    f"{LLAMA}/cmake/license.cmake": "",
    f"{LLAMA}/vendor/CMakeLists.txt": "",
    f"{LLAMA}/common/CMakeLists.txt": "",
    f"{LLAMA}/tools/ui/CMakeLists.txt": "",
    f"{LLAMA}/tools/mtmd/mtmd.h": "",
    f"{LLAMA}/include/llama.h": "",
    f"{LLAMA}/ggml/include/ggml.h": "",
    f"{LLAMA}/tools/server/CMakeLists.txt": (
        "add_executable(llama-server main.cpp)\ntarget_link_libraries(llama-server llama mtmd)\n"
        'target_compile_definitions(llama-server PRIVATE BUILD="${LLAMA_BUILD_COMMIT}")'
    ),
    f"{LLAMA}/tools/server/main.cpp": (
        SERVER + '{ llama_print_system_info(); std::puts("version: 1.0 (commit " BUILD ")"); }'
    ),
    f"{LLAMA}/models/large.gguf": "not needed",
}
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++") and (shutil.which("ninja") or shutil.which("make"))),
    reason="cmake and a C++ compiler are not installed",
)


def distribution(folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    archive = folder / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in {**SOURCES, **(changes or {})}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))
    return archive


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that pip takes for the package index."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "false")  # which is pip's way of yes: no environment is made
    yield tmp_path / "index"


def install(*, answers: bool = True) -> Path:
    build = llama_server.required()
    with llama_server.install(build, threads=2, listener=SilentListener()) as program:
        assert program.exists()
        if not answers:
            raise EngineError("no answer")
    return llama_server.folder() / build.name / "llama-server"


def left() -> list[str]:
    folder = llama_server.folder()
    return sorted(file.name for file in folder.iterdir() if file.name != ".lock") if folder.exists() else []


@needs_compiler
def test_it_is_compiled_for_the_installed_libraries_and_takes_the_place_of_older_ones(index: Path) -> None:
    distribution(index)
    old = llama_server.folder() / "llama-server-0.1.0-00000000" / "llama-server"
    old.parent.mkdir(parents=True)
    old.touch()
    with pytest.raises(EngineError, match="no answer"):
        install(answers=False)
    assert left() == [old.parent.name], "the old one stays until the new one has answered"
    program = install()
    assert left() == [program.parent.name] and program.parent.name.startswith(f"llama-server-{VERSION}-")
    assert list(llama_server.built()) == [(program, True)]
    about = programs.asked(programs.Program(program, ServerSource.BUILT))
    assert about.usable and about.build == f"commit llama-cpp-python=={VERSION}"
    assert stat.S_IMODE(llama_server.log_file().stat().st_mode) == 0o600
    if sys.platform == "linux":
        require_own_libraries(program)


def require_own_libraries(program: Path) -> None:
    """None of the working directory, and none that LD_LIBRARY_PATH names, for what RPATH says counts before it."""
    dynamic = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    (places,) = re.findall(r"\(RPATH\) .*\[(.*)\]", dynamic)
    assert all(Path(place).is_absolute() for place in places.split(":")), places


@needs_compiler
def test_what_can_not_be_compiled_leaves_the_old_one_and_a_log(index: Path) -> None:
    distribution(index, {f"{LLAMA}/tools/server/main.cpp": "int main() { return nonsense; }"})
    old = llama_server.folder() / "llama-server-0.1.0-00000000"
    old.mkdir(parents=True)
    with pytest.raises(EngineError, match=r"can't be compiled: .*error: .*nonsense") as caught:
        install()
    assert caught.value.hint == f"less {llama_server.log_file()}"
    assert left() == [old.name]


@needs_compiler
def test_ctrl_c_leaves_nothing_half_done(index: Path) -> None:
    distribution(index, {f"{LLAMA}/common/CMakeLists.txt": "execute_process(COMMAND sleep 61)"})
    argv = [sys.executable, "-m", "llmctl", "engine", "install", "llama-server", "--yes"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}) as process:
        deadline = time.monotonic() + 60
        while not (sleeping := _sleeping(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=30)
    assert code == 130
    assert sleeping and not any(started(pid) for pid in sleeping)
    assert left() == []


def _sleeping(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):  # one of the children
        return [child.pid for child in psutil.Process(pid).children(recursive=True) if child.name() == "sleep"]
    return []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{NAME}/vendor/llama.cpp/tools/server/../../../../../escaped": "x"}, "is damaged"),
        ({}, "brings no sources"),
    ],
)
def test_a_distribution_that_is_none(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    archive = distribution(tmp_path / "index", changes)
    if not changes:
        with tarfile.open(archive, "w:gz"):
            pass
    build = llama_server.Build(VERSION, tmp_path, "0")
    with pytest.raises(IntegrityError, match=words):
        compiled(archive, build, tmp_path / "work", threads=1, log=tmp_path / "log", listener=SilentListener())
    assert not (tmp_path / "escaped").exists()


def test_only_what_is_compiled_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    broken = {f"{LLAMA}/tools/server/CMakeLists.txt": "message(FATAL_ERROR stop)"}
    archive = distribution(tmp_path / "index", broken)
    build = llama_server.Build(VERSION, tmp_path, "0")
    with pytest.raises((EngineError, FileNotFoundError)):
        compiled(archive, build, tmp_path / "work", threads=1, log=tmp_path / "log", listener=SilentListener())
    assert sorted(file.name for file in (tmp_path / "work" / "sources").iterdir()) == [
        *("CMakeLists.txt", "cmake", "common", "ggml", "include", "tools", "vendor"),
    ]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"needs cmake, a C\+\+ compiler, make or ninja") as caught:
        llama_server.required()
    assert "sudo apt install cmake" in (caught.value.hint or "")


def test_two_do_not_compile_at_once(tmp_path: Path) -> None:
    from llmctl.files.lock import locked_now

    build = llama_server.Build(VERSION, tmp_path, "0")
    with (
        locked_now(paths.data_dir() / "engines" / ".lock", "llama-server"),
        pytest.raises(ResourceError, match="by another process"),
        llama_server.install(build, threads=1, listener=SilentListener()),
    ):
        pass


def test_an_update_of_the_libraries_makes_it_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "lib" / "libllama.so"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(library.parent))
    before = llama_server.current()
    assert before is not None
    program = llama_server.folder() / before.name / "llama-server"
    program.parent.mkdir(parents=True)
    program.touch()
    assert list(llama_server.built()) == [(program, True)]
    os.utime(library, (1, 1))
    assert list(llama_server.built()) == [(program, False)]
