"""A module of ours asked in a process of its own, with a deadline.

Drivers and engines hang, crash and print. Behind this door a crash is a signal's number, a hang is a time limit
held, and whatever a library prints cannot get between our lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REAP_S = 0.5  # a process stuck inside a driver can't be reaped even when killed; it is left to the kernel
WINDOWS_ILLEGAL_INSTRUCTION = 0xC000001D
WINDOWS_CRASHES = frozenset({0xC0000005, 0xC0000094, 0xC0000409})  # wrong address, division by zero, abort()
CRASHES = frozenset({signal.SIGABRT, signal.SIGFPE, signal.SIGSEGV, *([signal.SIGBUS] if os.name == "posix" else [])})


@dataclass(frozen=True, slots=True)
class Reply:
    """``data`` is what the module answered, None if it did not; ``why`` then says why, without a subject. ``crashed``:
    it ended for what it did (an assertion, a wrong address, a division by zero), not for its time or the memory."""

    data: Any | None
    why: str | None = None
    illegal_instruction: bool = False
    crashed: bool = False


def ask(environ: Mapping[str, str], module: str, question: Any = None, *, deadline_s: float) -> Reply:
    """Runs ``python -m module`` with ``question`` as JSON in its arguments. Never raises."""
    try:
        done = run([sys.executable, "-P", "-m", module, json.dumps(question)], environ, deadline_s)  # -P: not the cwd
    except (OSError, ValueError) as error:
        return Reply(None, f"can't be asked: {error}")
    return Reply(None, f"did not answer within {deadline_s:g} s") if done is None else _reply(*done)


def run(argv: Sequence[str], environ: Mapping[str, str], deadline_s: float) -> tuple[int, bytes, bytes] | None:
    """A program with an empty standard input, run to its end: its code, output and errors. None if it was ended for
    its time, with whatever it had started. Raises OSError and ValueError if it can't be started."""
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    except BaseException:
        _end(process)
        raise
    return process.returncode, out, err


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: those that it has started, too
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=REAP_S)


def _reply(code: int, out: bytes, err: bytes) -> Reply:
    if code == 0:
        try:
            return Reply(json.loads(out))
        except ValueError:
            return Reply(None, "gave an answer that can't be read")
    if code in (-signal.SIGILL, WINDOWS_ILLEGAL_INSTRUCTION):
        return Reply(None, "was stopped by an illegal instruction", illegal_instruction=True)
    lines = err.decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
    crashed = -code in CRASHES or code in WINDOWS_CRASHES
    if code < 0:
        return Reply(None, f"crashed (signal {-code}) {words}".strip(), crashed=crashed)
    return Reply(None, f"failed: {words}" if words else f"failed (exit code {code})", crashed=crashed)


def answer(function: Callable[[Any], Any]) -> int:
    """The child's side: calls ``function`` with the question and writes what it returns to the parent."""
    channel = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(channel, "w", encoding="utf-8") as out:
        out.write(json.dumps(function(json.loads(sys.argv[1]))))
    return 0
