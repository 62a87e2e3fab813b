"""How much there may be of something in any 60 seconds."""

from __future__ import annotations

from collections import deque

MINUTE_S = 60.0
BUCKET_S = 1.0


class MinuteLimit:
    """At most ``most`` of something in any 60 seconds. Times are seconds of a clock that only goes on."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._buckets: deque[tuple[float, float, int]] = deque()  # of a second: its first time, its last, how many

    def wait_s(self, now_s: float) -> float:
        """Seconds until there may be more; 0 for at once."""
        while self._buckets and self._buckets[0][1] <= now_s - MINUTE_S:
            self._buckets.popleft()
        counted = sum(amount for _, _, amount in self._buckets)
        free_s = now_s
        for _, last_s, amount in self._buckets:
            if counted < self.most:
                break
            counted -= amount
            free_s = last_s + MINUTE_S
        return free_s - now_s

    def add(self, now_s: float, amount: int) -> None:
        first_s, before = now_s, 0
        if self._buckets and now_s - self._buckets[-1][0] < BUCKET_S:
            first_s, _, before = self._buckets.pop()
        self._buckets.append((first_s, now_s, before + amount))
