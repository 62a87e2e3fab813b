"""A gateway that goes on when the command that has started it ends: in a session of its own, its output in a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from llmctl.errors import LlmctlError, ResourceError

MESSAGE_BYTES = 64 << 10
END_S = 5.0
LINE_LENGTH = 300
ERROR = "error: "  # as a command tells one
LOGS = "llmctl logs serve"


class Started(Struct, frozen=True):
    """What a detached gateway says when it answers, or why it doesn't: ``code`` is that of an error."""

    pid: int
    address: str = ""
    code: str | None = None
    message: str = ""
    hint: str | None = None


class DetachedGateway(Struct, frozen=True):
    pid: int
    address: str
    log: Path | None


def start(arguments: Sequence[str]) -> DetachedGateway:
    """Runs ``llmctl`` with those arguments, and returns when the gateway has loaded its first model. Raises what ended
    it, and ResourceError where it has ended without saying why."""
    from llmctl.engine.log import GATEWAYS, EngineLog

    log = EngineLog(GATEWAYS)
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "llmctl", *arguments, "--ready-fd", str(writing)]
    command += [] if log.path is None else ["--log-file", str(log.path)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # it says its address by the pipe: a disk that is full is no reason to end
        stderr=log.file,
        start_new_session=True,
        pass_fds=(writing,),
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as answer, closing(log):
        started = _read(answer.read(MESSAGE_BYTES))
        if started is None:
            raise ResourceError(f"the gateway ended before it answered: {_end_of(process, log.text())}", hint=LOGS)
    if started.code is not None:
        kind = _classes().get(started.code, LlmctlError)
        raise kind(started.message, hint=started.hint)
    return DetachedGateway(process.pid, started.address, log.path)


def _read(message: bytes) -> Started | None:
    """None where it has said nothing."""
    try:
        return msgspec.json.decode(message, type=Started)
    except msgspec.MsgspecError:
        return None


def _end_of(process: subprocess.Popen[bytes], log: str) -> str:
    """The error that its log ends with, else the last line of that, else how the process ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if lines:
        return (errors or lines)[-1][:LINE_LENGTH]
    if (code := process.returncode) is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _classes(kind: type[LlmctlError] = LlmctlError) -> dict[str, type[LlmctlError]]:
    """The classes of errors by their codes."""
    below = {code: made for child in kind.__subclasses__() for code, made in _classes(child).items()}
    return {kind.code: kind, **below}


class Parent:
    """The command that has started this gateway and waits at the other end of a pipe; ``handle`` None: nobody waits."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def tell(self, address: str) -> None:
        """It answers."""
        self._send(Started(os.getpid(), address))

    @contextmanager
    def hearing_errors(self) -> Iterator[None]:
        try:
            yield
        except LlmctlError as error:
            self._send(Started(os.getpid(), "", error.code, error.message, error.hint))
            raise
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            message = f"{error.filename}: {why}" if error.filename else why
            self._send(Started(os.getpid(), "", ResourceError.code, message))
            raise

    def _send(self, started: Started) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with suppress(OSError):  # it doesn't wait any more
            os.write(handle, msgspec.json.encode(started))
        os.close(handle)
