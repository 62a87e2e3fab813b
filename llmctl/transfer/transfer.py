"""The transfer of one file over as many connections as make it faster, until it is complete or the retries end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.errors import IntegrityError, LlmctlError, NetworkError, ResourceError, UnreachableError
from llmctl.files import disk
from llmctl.transfer.connection import AloneError, ChangedError, Connection, RemoteFile
from llmctl.transfer.partial_file import PartialFile
from llmctl.transfer.ramp_up import HOLD_S, RampUp
from llmctl.transfer.rate_limit import RateLimit
from llmctl.transfer.retry import LONGEST_WAIT_S, RetryBudget, ServerBusyError
from llmctl.transfer.segments import Segment, Segments
from llmctl.types.listener import Progress

if TYPE_CHECKING:
    import requests

REFILL_BYTES = 1 << 20  # this much more than ever before is progress
TICK_S = 0.05
WATCH_S = 5.0
LAGGING = 0.1  # a connection that brings less than this of what the others bring is given up
WAIT_S = 1.0  # before one that was turned away is tried again
LOOK_BYTES = 8 << 20  # that are written between two looks at the disk
MOST_UNSTATED_BYTES = 1 << 40  # of a file whose size is not stated: more than any model
FAREWELL_S = 0.5  # for connections to end that are no longer needed; those that don't can't write any more


class Transfer:
    """Fetches what is missing of ``partial``. Connections run in threads; ``run`` looks after them in the caller's.

    ``alone``: with one connection only.
    """

    def __init__(
        self,
        remote: RemoteFile,
        partial: PartialFile,
        refused: Callable[[requests.Response], LlmctlError],
        progress: Progress,
        *,
        limit: RateLimit,
        alone: bool = False,
    ) -> None:
        self.remote = remote
        self.partial = partial
        self.refused = refused
        self.limit = limit
        self.segments = Segments(partial, remote.bytes)
        self._progress = progress
        self._alone = alone
        self._ramp_up = RampUp(time.monotonic(), limit_bytes_per_s=limit.bytes_per_s)
        self._retries = RetryBudget()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()  # of the list
        self._news = threading.Event()
        self._failed_s = float("-inf")
        self._reached_bytes = partial.done_bytes  # at most, when something failed: what is fetched again is no progress
        self._not_before_s = 0.0
        self._turned_away = 0  # connections that the server would not have beside others
        self._reported_bytes, self._reported_s = -1, float("-inf")
        self._unwatched_bytes = 0  # that were written since the last look at the disk
        self._watched: dict[Connection, int] = {}
        self._watched_s = 0.0
        self._syncing: threading.Thread | None = None
        self._sync_error: OSError | None = None

    def run(self) -> None:
        """Returns when every byte is written. Raises ResourceError, OSError, and the error of a connection that another
        try can't mend."""
        self._require_room(self.segments.total_bytes or self.partial.done_bytes + 1)
        try:
            while True:
                self._report_progress()
                if self.segments.complete:
                    return
                self._remove_ended()
                self._adjust()
                self._open_connections()
                self._sync()
                self._news.wait(TICK_S)
                self._news.clear()
        finally:
            self._drop_all()

    def next_segment(self) -> Segment | None:
        """What a connection that has finished its segment fetches next; None if it isn't needed any more."""
        with self._lock:
            running = len(self._running())
        if running > self._most_connections():
            return None
        return self.segments.take(self._most_connections(), self._ramp_up.rate / running if running else 0.0)

    def extend(self, segment: Segment) -> bool:
        """Adds to a segment at its end, for an answer that goes on there. False if it should not."""
        return self.segments.extend(
            segment, self._most_connections(), self._ramp_up.rate / max(1, len(self._connections))
        )

    def set_total_bytes(self, total_bytes: int) -> None:
        """Records the file's size, which an answer has told. Raises ResourceError."""
        self._require_room(total_bytes)
        self.segments.set_total_bytes(total_bytes)

    def use_one_connection(self) -> None:
        """Opens no further connections: the server gives no parts."""
        self._alone = True

    def start_over(self, connection: Connection) -> Segment:
        """Forgets every byte and gives the whole file to ``connection``, the only one from now on."""
        self._alone = True
        with self._lock:
            for other in self._running():
                if other is not connection:
                    other.drop()
        return self.segments.start_over()

    def connection_ended(self) -> None:
        """Tells ``run`` that a connection has ended."""
        self._news.set()

    def _running(self) -> list[Connection]:
        return [connection for connection in self._connections if not connection.over]

    def _most_connections(self) -> int:
        return 1 if self._alone or self.segments.total_bytes is None else self._ramp_up.target

    def _require_room(self, total_bytes: int) -> None:
        disk.require_room(self.partial.path.parent, total_bytes - self.partial.done_bytes, self.remote.name)

    def written(self, count: int) -> None:
        """Counts bytes that were written, and looks at the disk every LOOK_BYTES: other programs fill it, too, and a
        body whose size is not stated may never end. Raises ResourceError, IntegrityError."""
        with self._lock:
            self._unwatched_bytes += count
            if self._unwatched_bytes < LOOK_BYTES:
                return
            self._unwatched_bytes = 0
        done_bytes = self.partial.done_bytes
        disk.require_reserve(self.partial.path.parent, done_bytes, self.remote.name)
        if self.segments.total_bytes is None and done_bytes > MOST_UNSTATED_BYTES:
            raise IntegrityError(
                f"{self.remote.name}: {units.size(done_bytes)} was received without an end; a file whose size is not "
                f"stated may have {units.size(MOST_UNSTATED_BYTES)}"
            )

    def _report_progress(self) -> None:
        done_bytes, now_s = self.partial.done_bytes, time.monotonic()
        if done_bytes != self._reported_bytes and (now_s - self._reported_s >= TICK_S or self.segments.complete):
            self._reported_bytes, self._reported_s = done_bytes, now_s
            self._progress(done_bytes, self.segments.total_bytes)

    def _remove_ended(self) -> None:
        """Takes connections that have ended off the list, and handles their errors."""
        with self._lock:
            ended = [connection for connection in self._connections if connection.over]
            self._connections = [connection for connection in self._connections if not connection.over]
        for connection in ended:
            if connection.error is not None:
                self._handle_failure(connection.error, connection.begun_s)

    def _handle_failure(self, error: BaseException, begun_s: float) -> None:
        """Decides what the failure of a connection means for the transfer. Raises it if no other try is left.

        A connection that began before the latest failure has failed for the same reason, which counts once.
        """
        if not isinstance(error, LlmctlError) or isinstance(error, ResourceError):
            raise error
        others, now_s, is_new = len(self._connections), time.monotonic(), begun_s > self._failed_s
        if isinstance(error, ChangedError) and is_new:
            self._reached_bytes = max(self._reached_bytes, self.partial.done_bytes)
            self._drop_all()
            self.segments.restart()
            others, self._alone = 0, True
        of_this_one = isinstance(error, ServerBusyError | UnreachableError | AloneError)
        if others and (of_this_one or not isinstance(error, NetworkError)):
            self._turn_away(error, others, now_s)
        elif not isinstance(error, NetworkError):
            raise error
        elif is_new:
            self._failed_s = now_s
            done_bytes = self.partial.done_bytes
            if done_bytes - self._reached_bytes >= REFILL_BYTES:
                self._retries.refill()
            self._reached_bytes = max(self._reached_bytes, done_bytes)
            try:
                self._not_before_s = now_s + self._retries.next_wait_s(error)
            except NetworkError:
                if not others:
                    raise
                self._ramp_up.fall_back(others, now_s + HOLD_S)

    def _turn_away(self, error: LlmctlError, others: int, now_s: float) -> None:
        """Waits before another connection is opened, since the server serves this one nothing beside the others."""
        asked_s = error.retry_after_s if isinstance(error, ServerBusyError) else None
        self._not_before_s = now_s + min(WAIT_S if asked_s is None else asked_s, LONGEST_WAIT_S)
        self._turned_away += 1
        # a busy server may still have counted a connection that has just gone
        if self._turned_away > 1 or not isinstance(error, ServerBusyError):
            self._ramp_up.fall_back(others, now_s + max(HOLD_S, min(asked_s or 0.0, LONGEST_WAIT_S)))

    def _adjust(self) -> None:
        """Adjusts the number of connections to the measured rate, and drops those that lag behind the others."""
        now_s, done_bytes = time.monotonic(), self.partial.done_bytes
        running = self._running()
        if self.segments.total_bytes is not None:
            flowing = sum(connection.received_bytes > 0 for connection in running)
            if flowing >= self._most_connections():
                self._turned_away = 0
            self._ramp_up.measure(now_s, done_bytes, self.segments.total_bytes - done_bytes, flowing)
        if now_s - self._watched_s < WATCH_S:
            return
        watched = [connection for connection in running if connection in self._watched]
        brought = {connection: connection.received_bytes - self._watched[connection] for connection in watched}
        for connection, brought_bytes in brought.items():
            if brought_bytes < LAGGING * sum(brought.values()) / len(brought):
                connection.drop()
                if not connection.received_bytes:
                    self._ramp_up.fall_back(len(running) - 1, now_s + HOLD_S)
        self._watched = {connection: connection.received_bytes for connection in running}
        self._watched_s = now_s

    def _open_connections(self) -> None:
        if time.monotonic() < self._not_before_s:
            return
        with self._lock:
            while len(self._running()) < self._most_connections():
                running = len(self._running()) + 1
                segment = self.segments.take(self._most_connections(), self._ramp_up.rate / running)
                if segment is None:
                    return
                self._connections.append(Connection(self, segment))
                self._connections[-1].start()

    def _sync(self) -> None:
        """Syncs the file to the disk when that is due, in a thread of its own. Raises OSError of the last time."""
        if self._sync_error is not None:
            raise self._sync_error
        if self.partial.sync_due() and (self._syncing is None or not self._syncing.is_alive()):
            self._syncing = threading.Thread(target=self._sync_now, name="sync", daemon=True)
            self._syncing.start()

    def _sync_now(self) -> None:
        try:
            self.partial.sync()
        except OSError as error:
            self._sync_error = error

    def _drop_all(self) -> None:
        for connection in self._connections:
            connection.drop()
        until_s = time.monotonic() + FAREWELL_S
        for connection in self._connections:
            connection.join(max(0.0, until_s - time.monotonic()))
        self._connections.clear()
