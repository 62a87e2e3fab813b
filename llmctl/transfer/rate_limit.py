"""A limit on bytes per second, over all connections of a transfer."""

from __future__ import annotations

import threading
import time

BURST_S = 0.05  # what was not used for so long may be made up for
GRAIN_S = 0.02  # nobody reads more at once than this is worth


class RateLimit:
    """A bucket that fills at ``bytes_per_s``; None for no limit."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._paid_s = time.monotonic()  # up to when what was taken has used the time up

    @property
    def share_bytes_per_s(self) -> float:
        """Less than this is not the limit's doing, however many share it."""
        return float("inf") if self.bytes_per_s is None else self.bytes_per_s / 20

    def at_once_bytes(self, most_bytes: int) -> int:
        """How much should be read at once, at most ``most_bytes``."""
        return most_bytes if self.bytes_per_s is None else max(1, min(most_bytes, round(self.bytes_per_s * GRAIN_S)))

    def wait(self, taken_bytes: int, over: threading.Event) -> None:
        """Returns when the next bytes may be taken after these, or when it is ``over``."""
        if self.bytes_per_s is None:
            return
        with self._lock:
            now_s = time.monotonic()
            self._paid_s = max(self._paid_s, now_s - BURST_S) + taken_bytes / self.bytes_per_s
            wait_s = self._paid_s - now_s
        if wait_s > 0:
            over.wait(wait_s)
