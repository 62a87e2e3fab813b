"""The package in fresh environments: with the oldest and the newest versions that it allows, and by each tool.

    python tests/bench/dependencies.py lowest [TEST …]    the tests, with the oldest version of every dependency
    python tests/bench/dependencies.py highest [TEST …]   and with the newest
    python tests/bench/dependencies.py install            sdist and wheel by pip, pipx and uv; each is asked for a plan

Needs uv, pipx and build in the environment that runs it (or on PATH), and one compiled wheel of llama-cpp-python, which
pip keeps: it is never compiled twice. ``--python 3.13`` takes another interpreter, one that is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = "llama-cpp-python"
IN_WHEEL = (
    "share/man/man1/llmctl.1",
    "share/bash-completion/completions/llmctl",
    "share/zsh/site-functions/_llmctl",
    "share/fish/vendor_completions.d/llmctl.fish",
)
ASKED = (("--version",), ("plan", "--machine", "laptop-16gb", "--limit", "0"))
QUICK = tuple(f"tests/{name}" for name in ("cli", "contract", "endpoint", "mcp", "server", "store", "workspace"))


def run(*words: str | Path, **environment: str) -> str:
    """stdout of a command. Ends the program with what it has said where it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\nended with {done.returncode}\n{done.stdout}")
    return done.stdout


def tool(name: str) -> str:
    """The program ``name``: beside this interpreter, else on PATH. Ends the program where there is none."""
    place = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return place or sys.exit(f"{name} is not installed: {sys.executable} -m pip install {name}")


def engine_wheel(folder: Path) -> Path:
    """A folder with the wheel of the engine that pip has kept, which it compiles only where it has none."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ENGINE)
    return folder


def direct() -> set[str]:
    """The names of all packages that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {line.partition(">")[0].partition("[")[0].strip() for line in asked}
    return {name.lower().replace("_", "-") for name in names}


def tests_with(resolution: str, python: str, tests: Sequence[str], folder: Path) -> int:
    """The exit code of the tests, run with the lowest or highest versions of what pyproject.toml asks for."""
    place = {"VIRTUAL_ENV": str(folder / "venv")}
    run(tool("uv"), "venv", "--quiet", "--python", python, folder / "venv")
    wheels = engine_wheel(folder / "wheels")
    chosen = {"lowest": "lowest-direct"}.get(resolution, resolution)
    run(tool("uv"), "pip", "install", "--resolution", chosen, "--find-links", wheels, "-e", ".[dev]", **place)
    for line in run(tool("uv"), "pip", "freeze", **place).splitlines():
        if line.partition("==")[0].lower() in direct():
            print(" ", line)
    pytest = [str(folder / "venv/bin/python"), "-m", "pytest", "-q", *(tests or QUICK)]
    return subprocess.run(pytest, cwd=ROOT, check=False).returncode


def install(python: str, folder: Path) -> int:
    """Builds both distributions, installs the wheel by each tool and the sdist by pip, and asks each for a plan."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ".")
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = len(archive.getnames())
    print(f"sdist {sdist.stat().st_size:,} bytes, {files} files; wheel {wheel.stat().st_size:,} bytes")
    wheels = engine_wheel(folder / "wheels")
    by: dict[str, Callable[[], Path]] = {
        "pip, wheel": lambda: by_pip(python, wheel, folder / "pip", wheels),
        "pip, sdist": lambda: by_pip(python, sdist, folder / "sdist", wheels),
        "pipx": lambda: by_pipx(python, wheel, folder / "pipx", wheels),
        "uv tool": lambda: by_uv(python, wheel, folder / "uv", wheels),
    }
    for name, installed in by.items():
        begun = time.perf_counter()
        command = installed()
        took_s = time.perf_counter() - begun
        said = [run(command, *words).splitlines()[0] for words in ASKED]
        missing = [file for file in IN_WHEEL if not (command.resolve().parent.parent / file).exists()]
        print(f"{name}: {took_s:.0f} s · {' · '.join(said)} · missing: {', '.join(missing) or 'nothing'}", flush=True)
    return 0


def by_pip(python: str, package: Path, place: Path, wheels: Path) -> Path:
    run(tool("uv"), "venv", "--quiet", "--seed", "--python", python, place)
    run(place / "bin/python", "-m", "pip", "install", "--quiet", "--find-links", wheels, package)
    return place / "bin/llmctl"


def by_pipx(python: str, package: Path, place: Path, wheels: Path) -> Path:
    interpreter = run(tool("uv"), "python", "find", python).strip()
    homes = {"PIPX_HOME": str(place), "PIPX_BIN_DIR": str(place / "bin"), "PIPX_MAN_DIR": str(place / "man")}
    run(tool("pipx"), "install", "--python", interpreter, f"--pip-args=--find-links={wheels}", package, **homes)
    assert (place / "man/man1/llmctl.1").exists(), "pipx has linked no manual"
    return place / "bin/llmctl"


def by_uv(python: str, package: Path, place: Path, wheels: Path) -> Path:
    homes = {"UV_TOOL_DIR": str(place), "UV_TOOL_BIN_DIR": str(place / "bin")}
    run(tool("uv"), "tool", "install", "--quiet", "--python", python, "--find-links", wheels, package, **homes)
    return place / "bin/llmctl"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lowest", "highest", "install"))
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "install":
            return install(asked.python, Path(folder))
        return tests_with(asked.what, asked.python, asked.tests, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
