"""How a transfer tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often and from the thread that transfers. ``total_bytes`` is None where nobody knows it.

    ``done_bytes`` may fall when a transfer has to start over; a display need not show that.
    """

    def __call__(self, done_bytes: int, total_bytes: int | None, /) -> None: ...
