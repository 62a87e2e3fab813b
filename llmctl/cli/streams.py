"""stdout and stderr as a command needs them: a failure of stdout is remembered, one of stderr never ends a command.

Whoever writes (typer, rich, a thread that shows progress) may catch what a stream raises, or raise something else in
its place: so ``stdout_error`` says at the end whether the answer was written.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


class Stdout(io.FileIO):
    """stdout: ``error`` is the first that writing it raised."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise


class Stderr(io.FileIO):
    """stderr: what can't be written is left out. ``error`` is why, of the last line."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            self.error = None
            return super().write(data)
        except OSError as error:
            self.error = error
            return memoryview(data).nbytes


def prepare() -> None:
    """Makes the process's streams usable: one that was closed before we began reads as empty and takes everything, and
    a locale without "→" is no reason to end in a traceback."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if _is_file(sys.stdout, sys.__stdout__):
        sys.stdout = _over(io.BufferedWriter(Stdout(sys.stdout.fileno(), "wb", closefd=False)), sys.stdout)
    if _is_file(sys.stderr, sys.__stderr__):
        sys.stderr = _over(io.BufferedWriter(Stderr(sys.stderr.fileno(), "wb", closefd=False)), sys.stderr)


def stdout_error() -> OSError | None:
    """Why the answer could not be written; None if it was."""
    return _error(sys.stdout)


def stderr_error() -> OSError | None:
    """Why the last line on stderr could not be written; None if it was."""
    return _error(sys.stderr)


def finish() -> None:
    """Writes what is left for stdout. Where that fails it goes nowhere, without a word of Python's when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        if stdout_error() is None:
            raise
    if stdout_error() is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_file(stream: object, process: object) -> bool:
    """Whether it is still the process's own, and not a console of Windows."""
    buffer = getattr(stream, "buffer", None)
    return stream is process and type(getattr(buffer, "raw", buffer)) is io.FileIO


def _over(buffer: io.BufferedWriter, stream: TextIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, stream.encoding, "replace", line_buffering=True)


def _error(stream: object) -> OSError | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, Stdout | Stderr) else None
