"""Requests that come at the same time are begun in the same step.

An engine with nothing to do begins with the first request at once. Where several come together, as the parallel calls
of a coding agent do, that first one would be read by itself, and each step streams all weights: of a model of 0.8 GB
four clients got 5 to 8 % fewer tokens a second by it (two cores of an AMD EPYC). So it waits for others, but only where
one is on its way already: a request that comes by itself waits for nobody.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

GAP_S = 0.004  # without another one: then all have come. One client's requests come 2 to 3 ms after each other
LONGEST_S = 0.03  # that the first one waits


class Arrivals:
    """Counts the requests whose prompts are being made."""

    def __init__(self) -> None:
        self._coming = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """While a request's prompt is made, which is submitted then, or refused."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._changed:
            self._coming += more
            self._changed.notify()

    def wait(self) -> None:
        """Waits until nobody has come for GAP_S, LONGEST_S at most; not at all where nobody is coming now."""
        end = time.monotonic() + LONGEST_S
        with self._changed:
            if not self._coming:
                return
            while (left_s := end - time.monotonic()) > 0:
                has_changed = self._changed.wait(left_s if self._coming else min(GAP_S, left_s))
                if not has_changed:
                    return
