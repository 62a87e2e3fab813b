"""How fast the last download was: what the expected time of the next one is told by."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from llmctl import paths
from llmctl.store.progress import Progress

LEAST_BYTES = 8 << 20  # less says more of the way there than of its width
LEAST_S = 1.0


@contextmanager
def measured(progress: Progress, limit_bytes_per_s: float | None) -> Iterator[Progress]:
    """``progress`` for a download, whose rate is noted at its end if it says something: enough of it, and no limit."""
    moved_bytes, first_bytes, begun_s = 0, -1, time.monotonic()

    def tell(done_bytes: int, total_bytes: int | None, /) -> None:
        nonlocal moved_bytes, first_bytes, begun_s
        if first_bytes < 0:  # what an earlier try has left was not moved now
            first_bytes, begun_s = done_bytes, time.monotonic()
        moved_bytes = max(moved_bytes, done_bytes - first_bytes)
        progress(done_bytes, total_bytes)

    yield tell
    took_s = time.monotonic() - begun_s
    if limit_bytes_per_s is None and moved_bytes >= LEAST_BYTES and took_s >= LEAST_S:
        _write(moved_bytes / took_s)


def _write(bytes_per_s: float) -> None:
    """Who can't write it down does without."""
    record = paths.cache_dir() / "download.json"
    with suppress(OSError):
        record.parent.mkdir(parents=True, exist_ok=True)
        beside = record.with_name(f".{os.urandom(4).hex()}.new")
        beside.write_text(json.dumps({"bytes_per_s": round(bytes_per_s)}), "utf-8")
        beside.replace(record)


def known() -> float | None:
    """Bytes per second of the last download that was large enough; None if there was none."""
    try:
        told = json.loads((paths.cache_dir() / "download.json").read_text("utf-8"))
        bytes_per_s = told["bytes_per_s"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(bytes_per_s) if isinstance(bytes_per_s, int) and bytes_per_s > 0 else None
