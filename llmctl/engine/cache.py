"""What was asked or measured once and need not be again: one JSON file per subject and key, under the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmctl import paths

LIMIT_BYTES = 1 << 20


def read(subject: str, key: Sequence[object]) -> Any | None:
    """What was written under exactly this key. None if nothing was, or if the file is broken."""
    try:
        with _file(subject, key).open("rb") as stream:
            held = json.loads(stream.read(LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(held, dict) or held.get("key") != _written(key):
        return None
    return held.get("value")


def write(subject: str, key: Sequence[object], value: Any) -> None:
    """Keeps ``value`` (plain JSON); readers see the old file or the new one. A cache that can't be written is none."""
    file = _file(subject, key)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{subject}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"key": _written(key), "value": value}, out)
            Path(partial).replace(file)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def _written(key: Sequence[object]) -> list[str]:
    return [str(part) for part in key]


def _file(subject: str, key: Sequence[object]) -> Path:
    digest = hashlib.sha256("\0".join(_written(key)).encode("utf-8", "replace")).hexdigest()[:16]
    return paths.cache_dir() / f"{subject}-{digest}.json"
