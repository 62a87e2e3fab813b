"""Several files of one model as one transfer."""

from __future__ import annotations

from llmctl.types.listener import Progress


def shifted(progress: Progress, before_bytes: int, total_bytes: int | None) -> Progress:
    """``progress`` for a file that comes after ``before_bytes`` of others; ``total_bytes`` is that of all together."""

    def report(done_bytes: int, _: int | None, /) -> None:
        progress(before_bytes + done_bytes, total_bytes)

    return report
