"""Leases on engines: whoever has something to ask gets a loaded engine, and gives it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Worker
from llmctl.types.engine import LoadedEngine
from llmctl.types.plan import Fit

Lease = Callable[[Fit], AbstractContextManager[LoadedEngine]]


class Pool:
    """The engines of one command, gateway or program. A context manager: leaving it ends what was only prepared."""

    def __init__(self) -> None:
        self._prepared: Worker | None = None

    def prepare(self) -> None:
        """Starts a process that imports the engine while its caller still plans. Raises EngineError."""
        self._prepared = self._prepared or Worker()

    @contextmanager
    def lease(self, fit: Fit) -> Iterator[LoadedEngine]:
        """An engine with the file of ``fit``, which is on this machine, and its settings. It ends with the lease.

        Raises EngineError when the file can't be loaded and EngineDiedError when the process ended while loading.
        """
        from llmctl.store import Store

        worker, self._prepared = self._prepared, None
        with start(fit, worker=worker) as engine:
            if fit.candidate.path is not None:
                Store().used(fit.candidate.path)
            yield engine

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
