"""A cache of answers and measurements: one JSON file per subject and key, under the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmctl import paths
from llmctl.errors import ConfigError
from llmctl.files import atomic

LIMIT_BYTES = 1 << 20


def read(subject: str, key: Sequence[object]) -> Any | None:
    """What was written under exactly this key. None if nothing was, or if the file is broken."""
    file = _file(subject, key)
    entry = file and atomic.read_json(file, LIMIT_BYTES, dict[str, Any])
    return entry.get("value") if entry and entry.get("key") == _texts(key) else None


def write(subject: str, key: Sequence[object], value: Any) -> None:
    """Writes ``value`` (plain JSON); readers see the old file or the new one. Write errors are ignored."""
    file = _file(subject, key)
    if file is not None:
        atomic.write_json(file, {"key": _texts(key), "value": value})


def _texts(key: Sequence[object]) -> list[str]:
    return [str(part) for part in key]


def _file(subject: str, key: Sequence[object]) -> Path | None:
    """None where a user has no folders of their own: `--version` has an answer all the same."""
    digest = hashlib.sha256("\0".join(_texts(key)).encode("utf-8", "replace")).hexdigest()[:16]
    try:
        return paths.cache_dir() / f"{subject}-{digest}.json"
    except ConfigError:
        return None
