"""Leases on engines: whoever has something to ask gets a loaded engine, and gives it back.

An engine ends with its lease, or stays for a while (``warm``) and is found by the next one, of whatever command.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from llmctl import units
from llmctl.engine.failures import counted
from llmctl.engine.jobs import job, module_for
from llmctl.engine.llama_cpp.start import load, started
from llmctl.engine.worker_process import LLAMA_CPP, Engine, Worker, new_token
from llmctl.errors import DecodingError, EngineDiedError, EngineError, ResourceError
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import Listener, SilentListener, TellShare
from llmctl.types.plan import Fit

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from llmctl.engine.warm.engine import WarmEngine
    from llmctl.engine.warm.entry import Entry, EntryFile

LOOK_S = 0.002
Lease = Callable[[Fit], AbstractContextManager[LoadedEngine]]


class Pool:
    """The engines of one command, gateway or program. A context manager: leaving it ends what was only prepared.

    An engine that is started stays for ``keep_alive_s`` after its last use: 0 ends it with its lease, infinity never.
    ``insist``: that was asked for by name, so an engine that had stayed before gets this time, too, and where none can
    stay, that is an error. ``as_planned``: it has as many sequences as were planned, also where memory has room for
    more. ``lock_memory``: an engine that is started keeps its memory off the disk, where the system allows that.
    """

    def __init__(
        self,
        *,
        keep_alive_s: float = 0.0,
        insist: bool = False,
        as_planned: bool = False,
        lock_memory: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self._keep_alive_s = keep_alive_s
        self._insist = insist
        self._listener = listener or SilentListener()
        self._prepared: Worker | None = None
        self._lock_memory = lock_memory
        self._has_warned = False
        self._has_room_for_more = not as_planned  # sequences than were planned

    def prepare(self) -> None:
        """Starts a process that imports the engine while its caller still plans, unless an engine has stayed that may
        answer. Raises EngineError, and ResourceError where no engine can stay and that was insisted on."""
        folder = self._folder()
        if self._prepared is None and not (folder is not None and any(folder.glob("*.json"))):
            self._prepared = Worker()

    @contextmanager
    def lease(self, fit: Fit, tell: TellShare | None = None) -> Iterator[LoadedEngine]:
        """An engine with the file of ``fit``, which is on this machine, and its settings. ``tell`` hears how much of it
        is loaded, in place of the listener.

        Raises EngineError when the file can't be loaded and EngineDiedError when the process ended while loading.
        """
        from llmctl.store import Store

        with nullcontext(tell) if tell is not None else self._listener.loading(fit) as tell_share:
            leased = self._engine(fit, tell_share)
        with leased as engine:
            if fit.candidate.path is not None:
                Store().used(fit.candidate.path)
            yield engine

    def _engine(self, fit: Fit, tell: TellShare) -> AbstractContextManager[LoadedEngine]:
        folder = self._folder()
        if folder is None:
            return self._alone(fit, tell)
        from llmctl.engine.warm import reuse
        from llmctl.engine.warm.engine import WarmEngine

        staying = self._staying(fit, folder) if self._keep_alive_s else None
        warm = reuse.find(
            folder,
            reuse.key_of(fit),
            None if staying is None else self._entry(staying),
            sequences=fit.configuration.sequences,
        )
        if isinstance(warm, WarmEngine):
            if self._insist:
                warm.stay_for(self._stays_for_s)
            return _lent(warm)
        reuse.make_room(folder, fit, self._listener)
        if warm is None or staying is None:
            return self._alone(fit, tell)
        try:
            return _lent(self._started(staying, warm, tell))
        except EngineError as error:
            if not error.lacked_memory or staying == fit:
                raise
            requests = units.number_of(fit.configuration.sequences, "request")
            self._listener.warn(f"{error.message}; it is tried for {requests} at a time")
        self._has_room_for_more = False
        return self._engine(fit, tell)

    def _staying(self, fit: Fit, folder: Path) -> Fit:
        """``fit`` for an engine that stays: with as many sequences as memory has room for, unless more were planned. A
        llama-server has those that were planned: they are among its options, which it is found by."""
        if fit.server is not None or not self._has_room_for_more:
            return fit
        from llmctl.engine.warm import reuse
        from llmctl.planner.sequences import sequences_with_room, with_sequences

        count = sequences_with_room(fit, reuse.held_by(reuse.idle(folder), fit))
        return with_sequences(fit, max(count, fit.configuration.sequences))

    def _folder(self) -> Path | None:
        """Where engines that stay are found; None where there is no such place and none is to stay."""
        if os.name != "posix":
            return None
        from llmctl.engine.warm import entry

        if not self._keep_alive_s:
            return entry.existing_folder()
        try:
            return entry.folder()
        except ResourceError as error:
            if self._insist:
                raise
            if not self._has_warned:
                self._listener.warn(error.message)
            self._has_warned = True
            return None

    @property
    def _stays_for_s(self) -> float | None:
        return None if math.isinf(self._keep_alive_s) else self._keep_alive_s

    def _entry(self, fit: Fit) -> Entry:
        from llmctl.engine.warm.entry import Entry
        from llmctl.engine.warm.reuse import key_of

        return Entry(
            key=key_of(fit),
            model=fit.candidate.model.id,
            quant=fit.candidate.artifact.quant,
            context=fit.context,
            sequences=fit.configuration.sequences,
            memory={row.device: row.total_bytes for row in fit.memory.by_device},
            keep_alive_s=self._stays_for_s,
            token=new_token(),
        )

    def _alone(self, fit: Fit, tell: TellShare) -> Engine:
        """An engine that ends with its lease. Raises as ``lease``."""
        with _supervised(fit):
            return started(self._worker(fit), self._job(fit), tell)

    def _started(self, fit: Fit, file: EntryFile, tell: TellShare) -> WarmEngine:
        """An engine that will stay. Raises as ``lease``."""
        from llmctl.engine.warm import process
        from llmctl.engine.warm.engine import WarmEngine

        begun = time.perf_counter()
        try:
            with _supervised(fit):
                entry, worker = file.read(), self._worker(fit)
                assert entry is not None, "it was just written"
                load(worker, {**self._job(fit), "token": entry.token, "entry_file": str(file.path)}, tell)
                while (entry := file.read()) is None or entry.ready is None:  # it lets go of us, then it says so
                    if process.started(worker.pid) is None:
                        raise worker.death()
                    time.sleep(LOOK_S)
        except BaseException:
            file.remove()
            file.close()
            raise
        return WarmEngine(file, entry, entry.ready, load_s=time.perf_counter() - begun, worker=worker)

    def _job(self, fit: Fit) -> dict[str, Any]:
        return {**job(fit), "lock_memory": self._lock_memory}

    def _worker(self, fit: Fit) -> Worker:
        module = module_for(fit)
        if module != LLAMA_CPP:
            self.close()
        worker, self._prepared = self._prepared, None
        return worker or Worker(module)

    def close(self) -> None:
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def end_unless_used(engine: LoadedEngine) -> None:
    """Ends an engine that was given back, and would stay for a while; not where another command uses it."""
    from llmctl.engine.warm import reuse
    from llmctl.engine.warm.engine import WarmEngine

    if isinstance(engine, WarmEngine):
        reuse.end_idle(engine.file.path)


@contextmanager
def _supervised(fit: Fit) -> Iterator[None]:
    """The engine for ``fit`` is started meanwhile. Failures count (``failures``); where memory did not suffice, the
    error says what was planned."""
    with counted(fit):
        try:
            yield
        except EngineError as error:
            if error.lacked_memory:
                from llmctl.engine.death import planned

                error.message += planned(fit)
            raise


@contextmanager
def _lent(engine: WarmEngine) -> Iterator[LoadedEngine]:
    """The engine stays, unless it has failed."""
    try:
        yield engine
    except (EngineDiedError, DecodingError):
        engine.end()
        raise
    finally:
        engine.let_go()
