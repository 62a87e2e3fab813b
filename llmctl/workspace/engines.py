"""The engines that stay loaded: which there are, and ending them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import NotFoundError, ResourceError
from llmctl.types.plan import CPU

if TYPE_CHECKING:
    from pathlib import Path

    from llmctl.engine.warm.entry import Entry
    from llmctl.types.machine import Machine

END_S = 5.0


class StayingEngine(Struct, frozen=True):
    """``users`` are the commands that use it now, of ``sequences`` that it answers at once; ``memory_bytes`` is its
    own, without the mapped file. ``keep_alive_s`` is how long it stays without a user, ``ends_in_s`` what is left of
    that; None is for ever, or, for the latter, as long as it is used."""

    model: str
    quant: str
    engine: str
    pid: int
    memory_bytes: int | None
    context: int
    users: int
    sequences: int
    idle_s: float
    keep_alive_s: float | None
    ends_in_s: float | None
    address: str

    @property
    def name(self) -> str:
        return f"{self.model}:{self.quant}"

    def answers_to(self, name: str) -> bool:
        return name in (self.model, self.name, str(self.pid))


def staying() -> list[StayingEngine]:
    """Those of this user that have loaded."""
    return [engine for _, engine in _staying()]


def logs() -> list[tuple[str, Path]]:
    """Names and logs of the engines that stay, as far as they have one."""
    from pathlib import Path

    from llmctl.engine.warm import entry

    read = [(engine.name, entry.read(path)) for path, engine in _staying()]
    ready = [(name, about.ready) for name, about in read if about is not None]
    return [(name, Path(answers.log)) for name, answers in ready if answers is not None and answers.log is not None]


def stop(name: str | None) -> list[StayingEngine]:
    """Ends the engines of that model (NAME, NAME:QUANT or the process's number), also while they answer; None: all.

    Raises NotFoundError where there is none of that name, and ResourceError for one that can't be ended.
    """
    engines = _staying()
    meant = [(path, engine) for path, engine in engines if name is None or engine.answers_to(name)]
    if not meant and name is not None:
        names = ", ".join(engine.name for _, engine in engines) or "none"
        raise NotFoundError(f"{name} is not loaded; what is: {names}", hint="llmctl ps")
    for path, engine in meant:
        _end(path, engine)
    return [engine for _, engine in meant]


def forget_prompts() -> int:
    """Removes what is kept of prompts on disk, which no engine reads meanwhile if all have been ended; the bytes that
    are free then. Raises ResourceError."""
    from llmctl.engine.llama_cpp import prompt_cache

    try:
        return prompt_cache.forget()
    except OSError as error:
        place = prompt_cache.place()
        raise ResourceError(f"what is kept of prompts in {place} can't be removed: {error.strerror}") from error


def with_idle_engines_ended(machine: Machine) -> Machine:
    """``machine`` with the memory of its own that idle engines hold counted as free: they end for whoever needs it."""
    from llmctl.engine.warm import reuse

    folder = _folder()
    held = sum(reuse.held_bytes(entry, CPU) for _, entry in reuse.idle(folder)) if folder is not None else 0
    if not held:
        return machine
    memory = machine.memory
    available = min(memory.available_bytes + held, memory.limit_bytes or memory.total_bytes, memory.total_bytes)
    return replace(machine, memory=replace(memory, available_bytes=max(available, memory.available_bytes)))


def _end(path: Path, engine: StayingEngine) -> None:
    """The entry goes first, so that nobody takes its end for a failure, and nobody finds it any more."""
    from llmctl.engine import log
    from llmctl.engine.warm import entry

    about = entry.read(path)
    path.unlink(missing_ok=True)
    if about is not None and about.ready is not None and not about.ready.process.end(END_S):
        raise ResourceError(f"the engine of {engine.name} (process {engine.pid}) does not end")
    log.remove(None if about is None or about.ready is None else about.ready.log)


def _folder() -> Path | None:
    if os.name != "posix":
        return None
    from llmctl.engine.warm import entry

    return entry.existing_folder()


def _staying() -> list[tuple[Path, StayingEngine]]:
    from llmctl.engine.warm import reuse

    folder = _folder()
    described = [] if folder is None else [(path, _described(path, about)) for path, about in reuse.living(folder)]
    return [(path, engine) for path, engine in described if engine is not None]


def _described(path: Path, about: Entry) -> StayingEngine | None:
    from llmctl.engine.warm import entry

    if about.ready is None or about.address is None:
        return None
    users, idle_s, stays_s = entry.users(path), entry.idle_s(path), about.keep_alive_s
    return StayingEngine(
        model=about.model,
        quant=about.quant,
        engine=about.ready.build,
        pid=about.ready.process.pid,
        memory_bytes=about.ready.process.memory_bytes,
        context=about.context,
        users=users,
        sequences=about.sequences,
        idle_s=0.0 if users else idle_s,
        keep_alive_s=stays_s,
        ends_in_s=None if users or stays_s is None else max(0.0, stays_s - idle_s),
        address=about.address,
    )
