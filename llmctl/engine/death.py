"""Why the process of an engine has ended, or could not load, in words for a person: what failed, and what to type."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from llmctl import units
from llmctl.engine.llama_cpp.refusal import explained, lacks_memory, refused_bytes
from llmctl.engine.log import crash_words
from llmctl.errors import EngineDiedError, EngineError
from llmctl.gguf.kind import CHOOSE_HINT
from llmctl.gguf.sound import HINT as FETCH_AGAIN
from llmctl.types.plan import Fit

DOCTOR = "llmctl doctor"  # tells the command that installs a build for this machine
PLAN = "llmctl plan   plans with the memory that is free now"
NO_LIMIT = "ulimit -v unlimited"
STOPPED = "it was stopped (SIGSTOP) and did not go on"
OUT_OF_MEMORY = "memory ran out, and the kernel ended it (signal 9)"
SIGNALS: Mapping[str, str] = {
    "SIGKILL": "it was killed (signal 9), by hand or by the kernel because memory ran out",
    "SIGTERM": "it was ended (SIGTERM), by hand or by a program that keeps memory free",
    "SIGILL": "illegal instruction (signal 4), this build is for another CPU",
    "SIGSEGV": "it used a wrong address (SIGSEGV)",
    "SIGBUS": "a part of its file could not be read (SIGBUS): the disk failed, or the file was changed meanwhile",
    "SIGABRT": "it ended itself (SIGABRT)",
    "SIGFPE": "it divided by zero (SIGFPE)",
    "SIGXCPU": "it used up the time that it may compute (SIGXCPU, ulimit -t)",
}
"""Signal -> what it means for an engine."""


class End(Struct, frozen=True):
    """How a process ended. ``code`` as ``subprocess`` has it, None for what is no child of ours; ``log`` is the text of
    its log; ``was_oom``: the kernel has ended a process for want of memory meanwhile. ``file`` is what it had loaded,
    of ``file_bytes`` then."""

    code: int | None
    log: str
    was_oom: bool = False
    file: Path | None = None
    file_bytes: int | None = None


class Cause(NamedTuple):
    """``sentence`` goes on from "the engine died: ", empty where nothing tells; ``hint`` is what to type."""

    sentence: str
    hint: str
    lacked_memory: bool = False


def cause(end: End) -> Cause:
    """What has ended a process."""
    words, name = crash_words(end.log), _signal_name(end.code)
    if name in ("SIGKILL", None) and not words and end.was_oom:
        return Cause(OUT_OF_MEMORY, PLAN, lacked_memory=True)
    if lacks_memory(words):
        return Cause(f"memory ran out ({words})", _without_limit() or PLAN, lacked_memory=True)
    if name == "SIGBUS" and (cut := _cut_off(end)) is not None:
        return Cause(cut, FETCH_AGAIN)
    if name is not None:
        sentence = SIGNALS.get(name, f"it got a signal ({name})")
        return Cause(f"{sentence}: {words}" if words and name == "SIGABRT" else sentence, DOCTOR)
    if words or not end.code:
        return Cause(words, remedy())
    lines = end.log.strip().splitlines() or [""]
    return Cause(f"exit code {end.code} {lines[-1].strip()[:200]}".strip(), DOCTOR)


def died(end: End, log: str | Path | None, *, before: str = "the engine died") -> EngineDiedError:
    """The error for a process that has ended by itself; ``log`` is shown where it has something to say."""
    sentence, hint, lacked_memory = cause(end)
    shown = f" (log: {log})" if log is not None and end.log.strip() else ""
    error = EngineDiedError(f"{before}{': ' if sentence else ''}{sentence}{shown}", hint=hint)
    error.lacked_memory = lacked_memory
    return error


def not_loaded(model: str, failed: str, log: Sequence[str]) -> EngineError:
    """The error for a file that llama.cpp has not loaded: ``failed`` in our words, ``log`` in its own."""
    if any(map(lacks_memory, (*log, failed))):
        return _short_of_memory(model, [*log, failed])
    refused = explained(next(iter(log), failed))
    hint = (FETCH_AGAIN if refused.broken else CHOOSE_HINT) if refused.meaning else DOCTOR
    return EngineError(f"llama.cpp can't load {model}: {refused.why}", hint=hint)


def _short_of_memory(model: str, log: Sequence[str]) -> EngineError:
    asked, limit = next(filter(None, map(refused_bytes, log)), None), address_space_bytes()
    said = next(filter(lacks_memory, log))[:200]
    more = "" if asked is None else f", {units.size(asked)} more could not be had"
    allowed = "" if limit is None else f"; ulimit -v allows {units.size(limit)}"
    error = EngineError(
        f"llama.cpp can't load {model}: memory ran out{more}{allowed} (llama.cpp: {said})",
        hint=_without_limit() or PLAN,
    )
    error.lacked_memory = True
    return error


def planned(fit: Fit) -> str:
    """What was planned on the device that is fullest, beside what was free there, to go on from an error."""
    rows = sorted(fit.memory.by_device, key=lambda row: row.available_bytes - row.total_bytes)
    if not rows:
        return ""
    row = rows[0]
    total, available = units.size(row.total_bytes), units.size(row.available_bytes)
    return f"; {total} was planned on {row.device}, {available} was free"


def address_space_bytes() -> int | None:
    """The limit on this process's addresses, which its children have too; None where there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def remedy() -> str:
    """What to type where nothing tells more: with few addresses an engine starts no threads, and fails anywhere."""
    return _without_limit() or DOCTOR


def _without_limit() -> str | None:
    return None if address_space_bytes() is None else NO_LIMIT


def _signal_name(code: int | None) -> str | None:
    if code is None or code >= 0 or os.name != "posix":
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _cut_off(end: End) -> str | None:
    """That the file has become shorter under the engine, with both sizes; None where it hasn't."""
    if end.file is None or end.file_bytes is None:
        return None
    left = end.file.stat().st_size if end.file.exists() else 0
    if left >= end.file_bytes:
        return None
    return f"its file was cut off while it was used: {left:,} of {end.file_bytes:,} bytes are left (SIGBUS)"
