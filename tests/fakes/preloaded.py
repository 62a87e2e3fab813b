"""llmctl with everything imported, forked for each command: what a process costs besides is paid once.

    with Preloaded() as llmctl, llmctl.start("run", "--endpoint", "desk", "hi") as process:
        out, err = process.communicate()

Each command is a process of its own: pid, streams, signals, working directory, environment and children are real. Its
arguments in the list of processes, and what Python does when it begins and ends, are not, but for unbuffered streams
and the ``sitecustomize`` of a PYTHONPATH: what depends on another variable that it reads there (a locale) takes an
interpreter that was started with it, and what depends on a stream that was closed before, or on when a module is
imported, the command line of ``fakes.command.argv``.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.fakes import shipped_catalogue

ROOT = Path(__file__).parents[2]
NUMBER = struct.Struct("!q")
# None of our children: tests look whether they have left any.
DETACHED = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"
STREAMS = ("stdin", "stdout", "stderr")
LIBRARIES = (  # what commands import only when they need it
    *("filelock", "jinja2.sandbox", "platformdirs", "prompt_toolkit", "psutil", "requests", "rich.console"),
    *("rich.progress", "tomlkit", "truststore"),
)
RARE = "llmctl.mcp."  # one command's, whose library takes as long as all the rest


class Forked:
    """A running command with the names of ``subprocess.Popen``; all three streams are pipes unless given."""

    def __init__(self, channel: socket.socket, job: Mapping[str, Any], given: Mapping[str, int]) -> None:
        ours, theirs = {}, {}
        for name in STREAMS:
            if name in given:
                theirs[name] = os.dup(given[name])
                continue
            reading, writing = os.pipe()
            ours[name], theirs[name] = (writing, reading) if name == "stdin" else (reading, writing)
        self.stdin, self.stdout, self.stderr = (_opened(name, ours) for name in STREAMS)
        self._reports, reports = socket.socketpair()
        with reports:
            _send(channel, job, [*theirs.values(), reports.fileno()])
        for stream in theirs.values():
            os.close(stream)
        self.pid = _number(self._reports)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._reports], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("llmctl", timeout or 0)
            self.returncode = _number(self._reports)
        return self.returncode

    def communicate(self, stdin: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Writes ``stdin`` and closes it, then reads both streams until the command ends. Raises TimeoutExpired."""
        with ThreadPoolExecutor(3) as pool:
            writing = pool.submit(self._write, stdin)
            reading = [pool.submit(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
            writing.result()
            out, err = (each.result() if each else b"" for each in reading)
        return out, err

    def _write(self, data: bytes) -> None:
        if self.stdin is not None:
            with suppress(BrokenPipeError), self.stdin:  # a command need not read it
                self.stdin.write(data)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()
        self._reports.close()


def _opened(name: str, pipes: Mapping[str, int]) -> IO[bytes] | None:
    return None if name not in pipes else open(pipes[name], "wb" if name == "stdin" else "rb")


class Preloaded:
    """The interpreter that is forked. ``before`` is put before its command line; ``environment`` is what Python itself
    reads when it starts."""

    def __init__(self, *before: str, **environment: str) -> None:
        self._channel, theirs = socket.socketpair()
        self._starting = threading.Lock()
        command = [*before, sys.executable, "-m", "tests.fakes.preloaded"]
        with theirs:
            subprocess.run(
                [sys.executable, "-c", DETACHED, *command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **environment},
                pass_fds=[theirs.fileno()],
                check=True,
            )

    def start(
        self,
        *arguments: str,
        streams: Mapping[str, int] | None = None,
        new_session: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
        program: str | None = None,
    ) -> Forked:
        """Starts a command in ``folder``, without one in the working directory. ``environment`` comes on top of ours;
        ``streams`` are files by name instead of pipes; a new session has a terminal that is its stdin for its own.
        ``program`` is Python that runs in place of llmctl, with these arguments."""
        job = {
            "arguments": arguments,
            "environment": {**os.environ, **(environment or {})},
            "folder": folder or os.getcwd(),
            "new_session": new_session,
            "program": program,
        }
        with self._starting:
            return Forked(self._channel, job, streams or {})

    def close(self) -> None:
        """It ends when nobody can send it a job."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _send(channel: socket.socket, job: Mapping[str, Any], streams: list[int]) -> None:
    data = json.dumps(job).encode()
    socket.send_fds(channel, [NUMBER.pack(len(data))], streams)
    channel.sendall(data)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A job and its streams; None when nobody will send one any more."""
    size, streams, *_ = socket.recv_fds(channel, NUMBER.size, 4)
    if not size:
        return None
    job: dict[str, Any] = json.loads(_exactly(channel, *NUMBER.unpack(size)))
    return job, streams


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = channel.recv(size - len(data))
        if not piece:
            raise EOFError("the preloaded interpreter has ended")
        data += piece
    return data


def _number(channel: socket.socket) -> int:
    (number,) = NUMBER.unpack(_exactly(channel, NUMBER.size))
    return int(number)


def serve(channel: socket.socket) -> None:
    """Runs every job that comes, in a child of its own, and reports its number and how it ended."""
    gc.disable()  # it would look at all the modules again and again
    _import_all()
    gc.freeze()  # what a garbage collection would copy
    gc.enable()
    running: dict[int, socket.socket] = {}
    signal.signal(signal.SIGCHLD, lambda *_: _report_ended(running))
    while (received := _receive(channel)) is not None:
        job, (*streams, reports) = received
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until it is known whom to report to
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            for number in (channel.fileno(), reports, *(each.fileno() for each in running.values())):
                os.close(number)
            os._exit(_run(job, streams))
        running[child] = socket.socket(fileno=reports)
        _report(running[child], child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for stream in streams:
            os.close(stream)


def _report_ended(running: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):  # none is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as reports:
                _report(reports, os.waitstatus_to_exitcode(ended[1]))


def _report(reports: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):
        reports.sendall(NUMBER.pack(number))


def _import_all() -> None:
    import llmctl

    for name in LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(llmctl.__path__, "llmctl."):
        if not module.name.endswith("__main__") and not module.name.startswith(RARE):
            importlib.import_module(module.name)
    shipped_catalogue.read_once()


def _run(job: Mapping[str, Any], streams: list[int]) -> int:
    """The exit code, as of a Python process that was started for the command."""
    try:
        _become(job, streams)
        code = _ran(job)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    return code


def _ran(job: Mapping[str, Any]) -> int:
    if job["program"] is None:
        from llmctl.cli import main

        return main(job["arguments"])
    try:
        exec(job["program"], {"__name__": "__main__"})  # noqa: S102  # the test's own
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
        return 1
    return 0


def _become(job: Mapping[str, Any], streams: list[int]) -> None:
    if job["new_session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if job["new_session"] and os.isatty(0):
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that its Ctrl-C arrives
    environment = job["environment"]
    for number, name in enumerate(STREAMS):
        text = _text(number, getattr(sys, name), unbuffered=bool(environment.get("PYTHONUNBUFFERED")))
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    path = environment.get("PYTHONPATH", "") if environment.get("PYTHONPATH") != os.environ.get("PYTHONPATH") else ""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(job["folder"])
    sys.argv[1:] = job["arguments"]
    for folder in filter(None, path.split(os.pathsep)):
        if (customized := Path(folder, "sitecustomize.py")).is_file():
            runpy.run_path(str(customized))


def _text(number: int, like: io.TextIOWrapper, *, unbuffered: bool) -> io.TextIOWrapper:
    """The stream with the encoding that Python has chosen for ``like``."""
    raw = open(number, "wb" if number else "rb", 0 if unbuffered and number else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw, like.encoding, like.errors, line_buffering=number == 2 or raw.isatty(), write_through=unbuffered
    )


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
