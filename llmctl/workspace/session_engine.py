"""The engine that a session holds on to between its prompts, loaded while the first is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager

from llmctl.engine.pool import Pool
from llmctl.errors import EngineError
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit

SHARE_LOOK_S = 0.25


class SessionEngine:
    """Leases an engine once and lends it for every turn, until another ``Fit`` is to answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._fit: Fit | None = None
        self._loading: Future[LoadedEngine] | None = None
        self._share = 0.0  # of the file, loaded
        self._leases = ExitStack()

    def prepare(self) -> None:
        """Starts the process, which imports the engine while something else is done."""
        self._pool.prepare()

    def load(self, fit: Fit) -> Future[LoadedEngine]:
        """Begins to load, unless ``fit`` is loaded; the engine of another fit is ended first."""
        if self._loading is None or self._fit != fit:
            self.release()
            self._fit, self._loading, self._share = fit, Future(), 0.0
            threading.Thread(target=self._load, args=(fit, self._loading), daemon=True).start()
        return self._loading

    def _load(self, fit: Fit, loading: Future[LoadedEngine]) -> None:
        try:
            loading.set_result(self._leases.enter_context(self._pool.lease(fit, self._note_share)))
        except BaseException as error:  # noqa: BLE001  # raised again where the engine is asked for
            loading.set_exception(error)

    def _note_share(self, share: float) -> None:
        self._share = share

    @contextmanager
    def lend(self, fit: Fit, listener: Listener) -> Iterator[LoadedEngine]:
        """The engine for one answer; the listener hears how it loads. Raises what the pool's lease raises; one that
        fails is started anew next time."""
        try:
            loading = self.load(fit)
            with listener.loading(fit) as tell:
                while not wait([loading], SHARE_LOOK_S).done:
                    tell(self._share)
            yield loading.result()
        except EngineError:
            self.release()
            raise

    def close(self) -> None:
        """Ends the engine. One that still loads ends with this process, so that nobody waits for it."""
        if self._loading is None or self._loading.done():
            self.release()
        self._pool.close()

    def release(self) -> None:
        """Gives the engine back, which then ends or stays as the pool has it; waits for one that loads."""
        loading, self._loading, self._fit = self._loading, None, None
        if loading is not None:
            loading.exception()  # waits until it has loaded, or not
        self._leases.close()
