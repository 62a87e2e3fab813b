"""Engines that have died while they loaded: after two deaths they aren't started a third time without a word.

An engine is its file, settings, build and environment (``warm.reuse.key_of``): another one is tried at once. What is
older than FORGOTTEN_S counts no more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl import paths, units
from llmctl.errors import ConfigError, EngineDiedError, EngineError
from llmctl.files import atomic
from llmctl.shell import command
from llmctl.struct import asdict
from llmctl.types.plan import Fit

FORGOTTEN_S = 600
MOST = 2
KEPT = 20
LIMIT_BYTES = 64 << 10


class Failure(Struct, frozen=True):
    """``died_s`` are the times of the deaths, in seconds since 1970; ``why`` is the last error."""

    died_s: tuple[float, ...]
    why: str
    lacked_memory: bool


@contextmanager
def counted(fit: Fit) -> Iterator[None]:
    """The engine for ``fit`` is started meanwhile: what goes wrong counts, and what loads is forgiven. Raises
    EngineDiedError, before, for one that has failed MOST times in the last FORGOTTEN_S."""
    _require_few(fit)
    try:
        yield
    except EngineError as error:
        if isinstance(error, EngineDiedError) or error.lacked_memory:
            _note(fit, error)
        raise
    _forgive(fit)


def _require_few(fit: Fit) -> None:
    failures = _read()
    failure = failures.get(_key(fit)) if failures else None
    if failure is None or len(failure.died_s) < MOST:
        return
    label = f"{fit.candidate.model.id} {fit.candidate.artifact.quant}"
    again_s = units.seconds(failure.died_s[-MOST] + FORGOTTEN_S - time.time())
    forget = command("rm", _file() or "")
    error = EngineDiedError(
        f"the engine for {label} has failed {len(failure.died_s)} times with these settings, so it isn't started again "
        f"for {again_s}; the last time: {failure.why}",
        hint=f"llmctl doctor   or, to try it all the same, {forget}",
    )
    error.lacked_memory = failure.lacked_memory
    raise error


def _note(fit: Fit, error: EngineError) -> None:
    failures, key = _read(), _key(fit)
    before = failures.pop(key, Failure((), "", lacked_memory=False))
    failures[key] = Failure((*before.died_s, time.time()), error.message, error.lacked_memory)
    _write(dict(list(failures.items())[-KEPT:]))


def _forgive(fit: Fit) -> None:
    failures = _read()
    if failures and failures.pop(_key(fit), None) is not None:
        _write(failures)


def _read() -> dict[str, Failure]:
    """The engines with deaths that count: not those at a time that is yet to come, as after the clock was set back."""
    file = _file()
    failures = None if file is None else atomic.read_json(file, LIMIT_BYTES, dict[str, Failure])
    now_s = time.time()
    recent = {
        key: replace(failure, died_s=tuple(died_s for died_s in failure.died_s if 0 <= now_s - died_s < FORGOTTEN_S))
        for key, failure in (failures or {}).items()
    }
    return {key: failure for key, failure in recent.items() if failure.died_s}


def _write(failures: dict[str, Failure]) -> None:
    file = _file()
    if file is not None:
        atomic.write_json(file, {key: asdict(failure) for key, failure in failures.items()})


def _file() -> Path | None:
    try:
        return paths.state_dir() / "engines" / "failures.json" if os.name == "posix" else None
    except ConfigError:
        return None


def _key(fit: Fit) -> str:
    """Empty where the file is gone."""
    from llmctl.engine.warm.reuse import key_of

    try:
        return key_of(fit)
    except OSError:
        return ""
