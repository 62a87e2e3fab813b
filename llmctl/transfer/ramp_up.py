"""How many connections a transfer has: more as long as each of them makes the whole faster.

A server, or a provider on the way, that gives every connection its share is worth several; a line that one connection
fills is not, and neither is a machine that can't keep up. Which of them it is can only be tried.
"""

from __future__ import annotations

MOST = 8
SETTLE_S = 0.1  # or as long as it took until the new connections had something: TCP starts slowly
WINDOW_S = 0.3  # the same holds for this
MOST_SLOW_START_S = 2.0
GAIN = 0.3  # an added connection has to bring at least so much of what one brought before
WORTH_S = 2.0  # with less to go, asking for more costs more than it brings
ENOUGH = 0.95  # of what the user allows
HOLD_S = 30.0  # lines change: so long after a vain attempt there is another


class RampUp:
    """Decides how many connections there should be, ``target``. ``rate`` is the latest measured, in bytes per second.

    ``limit_bytes_per_s`` is what the user allows.
    """

    def __init__(self, now_s: float, *, limit_bytes_per_s: float | None) -> None:
        self.target = 1
        self.rate = 0.0
        self._enough = (limit_bytes_per_s or float("inf")) * ENOUGH
        self._before: tuple[int, float] | None = None  # connections and rate before the latest were added
        self._climbing = True  # until the first vain attempt every step doubles
        self._raised_s = now_s
        self._window: tuple[float, int] | None = None  # when it begins, and what was done then
        self._slow_start_s = 0.0
        self._hold_until_s = 0.0

    def measure(self, now_s: float, done_bytes: int, left_bytes: int, flowing: int) -> None:
        """Measures the rate, called every TICK_S; ``flowing`` connections have received bytes."""
        if flowing < self.target:
            self._window = None
        elif self._window is None:
            self._slow_start_s = min(MOST_SLOW_START_S, now_s - self._raised_s)
            self._window = (now_s + max(SETTLE_S, self._slow_start_s), done_bytes)
        elif now_s <= self._window[0]:
            self._window = (self._window[0], done_bytes)
        elif now_s - self._window[0] >= max(WINDOW_S, self._slow_start_s):
            self.rate = max(0, done_bytes - self._window[1]) / (now_s - self._window[0])
            self._window = (now_s, done_bytes)
            self._decide(now_s, left_bytes)

    def _decide(self, now_s: float, left_bytes: int) -> None:
        if self._before is not None:
            connections, rate = self._before
            self._before = None
            if self.rate < min(self._enough, rate * (1 + GAIN * (self.target / connections - 1))):
                self.fall_back(connections, now_s + HOLD_S)
        worth = self.rate < self._enough and left_bytes > self.rate * WORTH_S
        if worth and self.target < MOST and now_s >= self._hold_until_s:
            self._before = (self.target, self.rate)
            self.target = min(MOST, self.target * 2 if self._climbing else self.target + 1)
            self._raised_s = now_s
            self._window = None

    def fall_back(self, connections: int, until_s: float) -> None:
        """Returns to ``connections`` and does not grow again before ``until_s``."""
        self.target = max(1, connections)
        self._climbing = False
        self._before = None
        self._window = None
        self._hold_until_s = max(self._hold_until_s, until_s)
