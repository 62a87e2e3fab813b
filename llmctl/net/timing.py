"""How long anything at the other end of a connection may take."""

from __future__ import annotations

from msgspec import Struct


class Timing(Struct, frozen=True):
    """Seconds. ``connect_s``: to connect, for each of a host's addresses; the look-up of the name and all of them
    together get ATTEMPTS times that. ``idle_s``: between two bytes of a body that is received, and without a byte that
    the other side takes of one that is sent. ``answer_s``: until the headers of the answer are complete, from when the
    request was sent. ``small_s``: for the whole body of a small answer, such as a list or the page of an error.
    """

    connect_s: float = 5.0
    idle_s: float = 30.0
    answer_s: float = 30.0
    small_s: float = 60.0

    @property
    def connecting_s(self) -> float:
        return ATTEMPTS * self.connect_s


ATTEMPTS = 3
TIMING = Timing()
