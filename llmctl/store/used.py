"""When a model file was last run by llmctl: a small record of its own, since filesystems seldom keep access times."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from llmctl import paths

MAX_RECORD_BYTES = 4 << 20


def note(path: Path) -> None:
    """Now. Whoever can't write this record runs the model all the same."""
    record = _record()
    times = {file: at for file, at in read().items() if os.path.exists(file)}  # noqa: PTH110  pathlib's raises
    times[str(path.resolve())] = time.time()
    beside = record.with_name(f".{os.urandom(4).hex()}.new")
    with contextlib.suppress(OSError):
        record.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(json.dumps(times), "utf-8")
            beside.replace(record)
        except OSError:
            beside.unlink(missing_ok=True)


def read() -> dict[str, float]:
    """Seconds since the epoch by resolved path; empty if nothing was ever run."""
    try:
        with _record().open("rb") as file:
            times = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(times, dict):
        return {}
    return {file: float(at) for file, at in times.items() if isinstance(at, int | float) and 0 <= at <= time.time()}


def _record() -> Path:
    return paths.data_dir() / "used.json"
