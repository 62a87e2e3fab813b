"""Unpacks the sources of llama.cpp that the server needs, and compiles them: output goes to a log."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llmctl import child
from llmctl.engine.install.logged_run import opened_log, run
from llmctl.errors import IntegrityError
from llmctl.types.listener import Listener

if TYPE_CHECKING:
    from llmctl.engine.install.llama_server import Build

PROJECT = Path(__file__).parent / "llama_server.cmake"
VENDORED = ("vendor", "llama.cpp")  # where the sources lie below the distribution's first folder
PARTS = (
    *("cmake", "common", "ggml/cmake", "ggml/include", "include", "scripts", "src", "vendor"),
    *("tools/mtmd", "tools/server", "tools/ui"),
)
TARGET = "llama-server"
COMPILERS = ("CC", "CXX")  # variables
FAILURE = "llama-server can't be compiled"


def compiled(archive: Path, build: Build, working: Path, *, threads: int, log: Path, listener: Listener) -> Path:
    """The program, compiled below ``working`` from the distribution ``archive``. Raises EngineError, which names the
    log, and IntegrityError for a distribution that isn't one."""
    sources, made = working / "sources", working / "made"
    _unpack(archive, sources)
    shutil.copyfile(PROJECT, sources / "CMakeLists.txt")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    settings = {"CMAKE_BUILD_TYPE": "Release", "LIBRARIES": build.libraries, "BUILD": build.requirement}
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    configuring = ["cmake", *generator, *defined, "-S", str(sources), "-B", str(made)]
    compiling = ["cmake", "--build", str(made), "--target", TARGET, "--parallel", str(threads)]
    compilers = {name: os.environ[name] for name in COMPILERS if name in os.environ}
    environment = {**child.environment(os.environ), **compilers}
    with opened_log(log) as output:
        for words in (configuring, compiling):
            run(words, output, log, listener, environment=environment, failure=FAILURE)
    return made / "tools" / "server" / TARGET


def _unpack(archive: Path, into: Path) -> None:
    """The parts that are compiled. Raises IntegrityError."""
    try:
        with tarfile.open(archive) as distribution:
            distribution.extractall(into, members=_members(distribution), filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise IntegrityError(f"{archive.name} from the package index is damaged ({error})") from error
    if not (into / "tools" / "server").is_dir():
        raise IntegrityError(f"{archive.name} has no {'/'.join(VENDORED)}: it brings no sources of llama.cpp")


def _members(distribution: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in distribution:
        name = PurePosixPath(member.name)
        below = PurePosixPath(*name.parts[3:])
        if name.parts[1:3] == VENDORED and any(below.is_relative_to(part) for part in PARTS):
            yield member.replace(name=str(below), deep=False)
