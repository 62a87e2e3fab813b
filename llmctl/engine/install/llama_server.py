"""Compiles llama-server from the sources that llama-cpp-python ships, for the libraries that pip has installed.

Only llama.cpp's common and server parts are compiled (71 files); what computes is the libraries that the worker uses,
too. The program lies in the data folder, below a name that changes with the libraries.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.engine.devices import NAME as PACKAGE
from llmctl.engine.devices import libraries
from llmctl.engine.install.compile import compiled
from llmctl.errors import EngineError
from llmctl.files import disk
from llmctl.files.lock import locked_now
from llmctl.files.temporary import temporary_folder
from llmctl.store import pip
from llmctl.types.listener import Listener

PROGRAM = "llama-server"
LINKED = ("ggml-base", "ggml", "llama", "mtmd")
SUFFIXES = (".so", ".dylib")
FILES = 71
CPU_S = 300.0  # of a core of an AMD EPYC for all files
ROOM_BYTES = 500_000_000  # the sources twice, packed and unpacked, and what is compiled
SOURCE_BYTES = 77_000_000
NEEDED = {
    "cmake": ("cmake",),
    "a C++ compiler": ("c++", "g++", "clang++"),
    "make or ninja": ("ninja", "make"),
}
HINT = "sudo apt install cmake g++ make   (macOS: xcode-select --install; brew install cmake)"


class Build(Struct, frozen=True):
    """What is to be compiled. ``key`` stands for the installed libraries, which lie in ``libraries``."""

    version: str
    libraries: Path
    key: str

    @property
    def name(self) -> str:
        return f"{PROGRAM}-{self.version}-{self.key}"

    @property
    def requirement(self) -> str:
        return f"{PACKAGE}=={self.version}"


def folder() -> Path:
    return paths.data_dir() / "engines"


def log_file() -> Path:
    return paths.state_dir() / "engines" / f"{PROGRAM}-build.log"


def built() -> Iterator[tuple[Path, bool]]:
    """The programs that were built, and whether each is for the libraries that are installed now; that one first."""
    now = current()
    programs = sorted(folder().glob(f"{PROGRAM}-*/{PROGRAM}"))
    for program in sorted(programs, key=lambda program: now is None or program.parent.name != now.name):
        yield program, now is not None and program.parent.name == now.name


def current() -> Build | None:
    """The build for the installed libraries; None where llama-cpp-python isn't installed."""
    place = libraries()
    try:
        installed = version(PACKAGE)
        if place is None:
            return None
        parts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(place.iterdir())]
    except (PackageNotFoundError, OSError):
        return None
    return Build(installed, place, hashlib.sha256(repr(parts).encode()).hexdigest()[:8])


def required() -> Build:
    """What can be built here. Raises EngineError where tools or libraries for it are missing."""
    if os.name != "posix":
        raise EngineError("llama-server can't be compiled by llmctl on this system", hint="llmctl engine list")
    build = current()
    if build is None:
        raise EngineError(f"{PACKAGE} is not installed: llama-server needs its libraries", hint="llmctl doctor")
    tools = [what for what, names in NEEDED.items() if not any(shutil.which(name) for name in names)]
    if tools:
        raise EngineError(f"compiling llama-server needs {', '.join(tools)}, which this machine lacks", hint=HINT)
    missing = [name for name in LINKED if not any((build.libraries / f"lib{name}{end}").exists() for end in SUFFIXES)]
    if missing:
        without = f"{build.libraries} has no lib{missing[0]}: {PACKAGE} was built without it"
        raise EngineError(without, hint="llmctl doctor")
    return build


def seconds(threads: int) -> float:
    """How long compiling takes, about."""
    return CPU_S / max(1, threads)


@contextmanager
def install(build: Build, *, threads: int, listener: Listener) -> Iterator[Path]:
    """The compiled program, at a place of its own until the context ends: then it takes the place of older ones, unless
    an error was raised. Nothing is left of what fails or is interrupted but the log.

    Raises NetworkError, NotFoundError, ResourceError, and EngineError for what can't be compiled.
    """
    place = folder()
    working = place / ".building"
    with disk.writing(place, PROGRAM), locked_now(place / ".lock", PROGRAM):
        disk.require_room(place, ROOM_BYTES, PROGRAM)
        with temporary_folder(working):
            archive = _fetched(build, working, listener)
            program = compiled(archive, build, working, threads=threads, log=log_file(), listener=listener)
            yield program
            _put_in_place(program, place / build.name)


def _fetched(build: Build, into: Path, listener: Listener) -> Path:
    """The source distribution. pip doesn't tell how far it is: the file that grows does."""
    with listener.progress(f"{build.requirement} (source)", resumes=False) as progress:
        archive = pip.download(
            build.requirement, into, looking=lambda: progress(pip.largest_file_bytes(into), None), source=True
        )
        progress(archive.stat().st_size, archive.stat().st_size)
    return archive


def _put_in_place(program: Path, target: Path) -> None:
    """The new one is there before the old ones go."""
    target.mkdir(exist_ok=True)
    program.replace(target / PROGRAM)
    disk.sync_folder(target)
    for other in target.parent.glob(f"{PROGRAM}-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
