"""The rate of the last download, which the expected time of the next one is worked out from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmctl import paths
from llmctl.files import atomic
from llmctl.types.listener import Progress

LEAST_BYTES = 8 << 20  # of less, the time is mostly latency
LEAST_S = 1.0
MAX_RECORD_BYTES = 4096


@contextmanager
def measured(progress: Progress, limit_bytes_per_s: float | None) -> Iterator[Progress]:
    """``progress`` for a download, whose rate is recorded at its end unless it was short or limited."""
    moved_bytes, first_bytes, begun_s = 0, -1, time.monotonic()

    def report(done_bytes: int, total_bytes: int | None, /) -> None:
        nonlocal moved_bytes, first_bytes, begun_s
        if first_bytes < 0:  # what an earlier try has left was not moved now
            first_bytes, begun_s = done_bytes, time.monotonic()
        moved_bytes = max(moved_bytes, done_bytes - first_bytes)
        progress(done_bytes, total_bytes)

    yield report
    took_s = time.monotonic() - begun_s
    if limit_bytes_per_s is None and moved_bytes >= LEAST_BYTES and took_s >= LEAST_S:
        atomic.write_json(_file(), {"bytes_per_s": round(moved_bytes / took_s)})


def read() -> float | None:
    """Bytes per second of the last download that was large enough; None if there was none."""
    record = atomic.read_json(_file(), MAX_RECORD_BYTES, dict[str, float]) or {}
    bytes_per_s = record.get("bytes_per_s", 0.0)
    return bytes_per_s if bytes_per_s > 0 else None


def _file() -> Path:
    return paths.cache_dir() / "download.json"
