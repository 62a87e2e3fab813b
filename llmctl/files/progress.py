"""How a transfer tells how far it is, and several files of one model as one transfer."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often and from the thread that transfers. ``total_bytes`` is None where nobody knows it.

    ``done_bytes`` may fall when a transfer has to start over; a display need not show that.
    """

    def __call__(self, done_bytes: int, total_bytes: int | None, /) -> None: ...


def shifted(progress: Progress, before_bytes: int, total_bytes: int | None) -> Progress:
    """``progress`` for a file that comes after ``before_bytes`` of others; ``total_bytes`` is that of all together."""

    def tell(done_bytes: int, _: int | None, /) -> None:
        progress(before_bytes + done_bytes, total_bytes)

    return tell
