"""The engine of one model behind a gateway, from its start to its end."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from typing import Protocol

from llmctl.engine.pool import Pool, end_unless_used
from llmctl.engine.warm.process import Process, started
from llmctl.errors import EngineError
from llmctl.types.endpoint import Address
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit

# An engine whose gateway is killed ends by itself after that. Until then `llmctl ps` has it, and `run` may use it.
STAYS_S = 1.0


class RunningEngine(Protocol):
    """An engine that has loaded its model. ``death`` and ``end`` may be called by several threads."""

    @property
    def address(self) -> Address: ...

    @property
    def pid(self) -> int: ...

    @property
    def load_s(self) -> float: ...

    @property
    def is_alive(self) -> bool: ...

    def death(self) -> EngineError:
        """Why it no longer answers; it is ended if it still runs. Takes seconds at most."""

    def end(self) -> None:
        """Harmless for one that has ended."""


class ServedEngine:
    """A loaded engine that no other command ends, unless it is told to by name (`llmctl stop`)."""

    def __init__(self, engine: LoadedEngine, leases: ExitStack) -> None:
        self._engine = engine
        self._leases = leases
        self._process = Process(engine.pid, started(engine.pid) or "")
        self._ending = threading.Lock()
        self._death: EngineError | None = None
        self._has_ended = False

    @property
    def address(self) -> Address:
        return self._engine.address

    @property
    def pid(self) -> int:
        return self._engine.pid

    @property
    def load_s(self) -> float:
        return self._engine.load_s

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive

    @property
    def memory_bytes(self) -> int | None:
        """Of its own, without the mapped file; None if unknown."""
        return self._process.memory_bytes

    def death(self) -> EngineError:
        """Why it no longer answers; it is ended if it still runs. Takes seconds at most."""
        with self._ending:
            if self._death is None:
                self._death = self._engine.death()
                if not self._has_ended:
                    self._give_back(self._death)
            return self._death

    def end(self) -> None:
        """Gives it back and ends it, unless another command uses it. Harmless for one that has ended."""
        with self._ending:
            if not self._has_ended:
                self._give_back(None)
                end_unless_used(self._engine)

    def _give_back(self, failure: EngineError | None) -> None:
        self._has_ended = True
        with suppress(EngineError), self._leases:
            if failure is not None:
                raise failure


def start_engine(fit: Fit, listener: Listener, *, lock_memory: bool = False) -> ServedEngine:
    """Loads the file of ``fit``, which is on this machine, for as many requests as it says. Raises what ``Pool.lease``
    raises."""
    with ExitStack() as leases:
        pool = leases.enter_context(
            Pool(keep_alive_s=STAYS_S, as_planned=True, lock_memory=lock_memory, listener=listener)
        )
        engine = leases.enter_context(pool.lease(fit))
        return ServedEngine(engine, leases.pop_all())
