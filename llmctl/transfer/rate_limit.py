"""A limit on bytes per second, over all connections of a transfer."""

from __future__ import annotations

import threading
import time

BURST_S = 0.05  # unused time that may be made up for
GRAIN_S = 0.02  # a read takes at most the bytes of this time


class RateLimit:
    """A bucket that fills at ``bytes_per_s``; None for no limit."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_s = time.monotonic()  # when the bytes taken so far have used up their time

    @property
    def share_bytes_per_s(self) -> float:
        """A connection below this rate is slow by itself, not for the limit, however many share it."""
        return float("inf") if self.bytes_per_s is None else self.bytes_per_s / 20

    def at_once_bytes(self, most_bytes: int) -> int:
        """The most bytes to read at once, at most ``most_bytes``."""
        return most_bytes if self.bytes_per_s is None else max(1, min(most_bytes, round(self.bytes_per_s * GRAIN_S)))

    def wait(self, taken_bytes: int, over: threading.Event) -> None:
        """Waits until the rate allows bytes after ``taken_bytes``, or until ``over`` is set."""
        if self.bytes_per_s is None:
            return
        with self._lock:
            now_s = time.monotonic()
            self._free_s = max(self._free_s, now_s - BURST_S) + taken_bytes / self.bytes_per_s
            wait_s = self._free_s - now_s
        if wait_s > 0:
            over.wait(wait_s)
