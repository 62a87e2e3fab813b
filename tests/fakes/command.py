"""The real command in a real process, with the test's own home: forked from an interpreter that has imported llmctl."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from tests.fakes.preloaded import ROOT as ROOT
from tests.fakes.preloaded import Forked, Preloaded

WORKER = "llmctl.engine.llama_cpp.worker"
READ_AT_START = ("PYTHON", "LC_", "LANG")
DONE_WHEN_FORKED = ("PYTHONPATH", "PYTHONUNBUFFERED")


def preloaded(environment: Mapping[str, str] | None = None) -> Preloaded:
    """An interpreter for the whole run of the tests; one of its own for what Python itself reads of ``environment``."""
    read = [
        (name, value)
        for name, value in (environment or {}).items()
        if name.startswith(READ_AT_START) and name not in DONE_WHEN_FORKED
    ]
    return _started(*sorted(read))


@functools.cache
def _started(*read: tuple[str, str]) -> Preloaded:
    made = Preloaded(**dict(read))
    atexit.register(made.close)
    return made


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmctl", *arguments]


@contextmanager
def spawn(*arguments: str, **environment: str) -> Iterator[Forked]:
    """Started, not waited for, and gone at the end in any case; stdin is /dev/null."""
    with open(os.devnull) as nothing:
        streams = {"stdin": nothing.fileno()}
        process = preloaded(environment).start(*arguments, streams=streams, environment=environment)
    with process:
        try:
            yield process
        finally:
            process.kill()


def kill_engine_of(process: Forked, *, after_s: float) -> None:
    """SIGKILL to the engine of a running ``llmctl run`` once it has used ``after_s`` of CPU."""
    engine_of(process, after_s=after_s).kill()


def engine_of(process: Forked | subprocess.Popen[bytes], *, after_s: float = 0.0) -> psutil.Process:
    """The engine of a running command, once it has used ``after_s`` of CPU. A command has other children as well."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                if WORKER in child.cmdline() and sum(child.cpu_times()[:2]) > after_s:
                    return child
        if process.poll() is not None:
            raise AssertionError(f"it ended by itself: {process.communicate()}")
        time.sleep(0.02)
    raise AssertionError("the engine never got to work")


def wait_for_end(process: psutil.Process) -> None:
    """Waits until it has ended. Whose parent is gone is a zombie until init looks at it."""
    deadline = time.monotonic() + 30
    while _lives(process):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def llmctl(
    *arguments: str, stdin: str | None = None, timeout: float = 150, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run to its end. Without ``stdin`` it is /dev/null."""
    data = None if stdin is None else stdin.encode()
    done = ran(arguments, stdin=data, timeout=timeout, environment=environment)
    return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As ``llmctl``, by a Python of its own: its arguments stand in the list of processes."""
    return subprocess.run(argv(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)


def ran(
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    timeout: float = 150,
    environment: Mapping[str, str] | None = None,
    streams: Mapping[str, int] | None = None,
    interpreter: Preloaded | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """As ``llmctl``, in bytes. ``streams`` are files by name instead of pipes."""
    with open(os.devnull) as nothing:
        given = {**({"stdin": nothing.fileno()} if stdin is None else {}), **(streams or {})}
        process = (interpreter or preloaded(environment)).start(*arguments, streams=given, environment=environment)
    with process:
        out, err = process.communicate(stdin or b"", timeout)
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout, its envelope checked."""
    made: dict[str, Any] = json.loads(done.stdout)
    assert set(made) == {"schema", "command", "data", "warnings", "error"}
    assert made["schema"] == "llmctl/1"
    return made


def at_a_terminal(arguments: list[str], answer: str) -> tuple[int, str]:
    """The exit code, and what a person sees who answers the first question."""
    terminal, other_end = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), other_end)
    with preloaded().start(*arguments, streams=streams) as child:
        os.close(other_end)
        seen, answered = b"", False
        while True:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says so when nobody has the other end any more
                break
            seen += piece
            if b"[y/N]" in seen and not answered:
                answered = True
                os.write(terminal, f"{answer}\n".encode())
        os.close(terminal)
        return child.wait(timeout=30), seen.decode()
