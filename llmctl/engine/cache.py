"""What was asked or measured once and need not be again: one JSON file per subject and key, under the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmctl import paths, record

LIMIT_BYTES = 1 << 20


def read(subject: str, key: Sequence[object]) -> Any | None:
    """What was written under exactly this key. None if nothing was, or if the file is broken."""
    held = record.read_json(_file(subject, key), LIMIT_BYTES)
    if not isinstance(held, dict) or held.get("key") != _written(key):
        return None
    return held.get("value")


def write(subject: str, key: Sequence[object], value: Any) -> None:
    """Keeps ``value`` (plain JSON); readers see the old file or the new one. A cache that can't be written is none."""
    record.write_json(_file(subject, key), {"key": _written(key), "value": value})


def _written(key: Sequence[object]) -> list[str]:
    return [str(part) for part in key]


def _file(subject: str, key: Sequence[object]) -> Path:
    digest = hashlib.sha256("\0".join(_written(key)).encode("utf-8", "replace")).hexdigest()[:16]
    return paths.cache_dir() / f"{subject}-{digest}.json"
