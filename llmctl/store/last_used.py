"""When a model file was last run by llmctl: a small record of its own, since filesystems seldom keep access times."""

from __future__ import annotations

import os
import time
from pathlib import Path

from llmctl import paths
from llmctl.files import atomic

MAX_RECORD_BYTES = 4 << 20


def record(path: Path) -> None:
    """Records that the model is run now. Write errors are ignored."""
    times = {file: at for file, at in read().items() if os.path.exists(file)}  # noqa: PTH110  pathlib's raises
    times[str(path.resolve())] = time.time()
    atomic.write_json(_file(), times)


def read() -> dict[str, float]:
    """Seconds since the epoch by resolved path; empty if nothing was ever run."""
    times = atomic.read_json(_file(), MAX_RECORD_BYTES, dict[str, float]) or {}
    return {file: at for file, at in times.items() if 0 <= at <= time.time()}


def _file() -> Path:
    return paths.data_dir() / "used.json"
