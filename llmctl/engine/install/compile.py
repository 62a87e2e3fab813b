"""Unpacks the sources of llama.cpp that the server needs, and compiles them: output goes to a log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llmctl import child
from llmctl.errors import EngineError, IntegrityError
from llmctl.printable import printable
from llmctl.shell import command
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
LOOK_S = 1.0
TAIL_BYTES = 4096
STEP = re.compile(rb"\[ *(\d+)(?:/(\d+)|%)\]")  # ninja's "[12/80]", make's "[ 16%]"
STEP_PERCENT = 20
LONGEST = 200


def compiled(archive: Path, build: Build, working: Path, *, threads: int, log: Path, listener: Listener) -> Path:
    """The program, compiled below ``working`` from the distribution ``archive``. Raises EngineError, which names the
    log, and IntegrityError for a distribution that isn't one."""
    sources, made = working / "sources", working / "made"
    _unpack(archive, sources)
    shutil.copyfile(PROJECT, sources / "CMakeLists.txt")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    settings = {"CMAKE_BUILD_TYPE": "Release", "LIBRARIES": build.libraries, "BUILD": build.requirement}
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    with _log(log) as output:
        _run(["cmake", *generator, *defined, "-S", str(sources), "-B", str(made)], output, log, listener)
        compiling = ["cmake", "--build", str(made), "--target", TARGET, "--parallel", str(threads)]
        _run(compiling, output, log, listener)
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


@contextlib.contextmanager
def _log(file: Path) -> Iterator[int]:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _run(words: Sequence[str], output: int, log: Path, listener: Listener) -> None:
    """Runs a command to its end, at low priority; with it end those that it has started. Raises EngineError."""
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    process = subprocess.Popen(
        [*nice, *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**child.environment(os.environ), **{name: os.environ[name] for name in COMPILERS if name in os.environ}},
        start_new_session=True,
    )
    try:
        _tell(process, log, listener)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise EngineError(f"llama-server can't be compiled: {_error(log)}", hint=command("less", names=[log]))


def _tell(process: subprocess.Popen[bytes], log: Path, listener: Listener) -> None:
    shown_percent = 0
    while True:
        try:
            process.wait(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            if (percent := _percent(log)) >= shown_percent + STEP_PERCENT:
                shown_percent = percent - percent % STEP_PERCENT
                listener.note(f"  {percent} % compiled")
        else:
            return


def _percent(log: Path) -> int:
    steps = STEP.findall(_tail(log))
    if not steps:
        return 0
    done, of = steps[-1]
    return int(done) * 100 // max(1, int(of or 100))


def _error(log: Path) -> str:
    """The first line with an error, and what stands below it; else the last line."""
    lines = [line.strip() for line in _tail(log).decode("utf-8", "replace").splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if "error" in line.lower()), len(lines) - 1)
    return printable(" ".join(lines[first : first + 2]), LONGEST) or "it said nothing"


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read()
