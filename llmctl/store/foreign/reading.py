"""Looking into what another tool has written. Nothing of it is trusted, and nothing is changed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from llmctl import paths
from llmctl.errors import ConfigError

MAX_DOCUMENT_BYTES = 1 << 20


def home() -> Path | None:
    """The user's home folder, None where there is none: then no tool keeps anything there."""
    try:
        return paths.home()
    except ConfigError:
        return None


def inside(path: Path, root: Path) -> os.stat_result | None:
    """The status of the regular, readable file at ``path``, or None. A symlink that leads out of ``root`` is none."""
    try:
        target = path.resolve(strict=True)
        status = target.stat()
        if not stat.S_ISREG(status.st_mode) or not target.is_relative_to(root.resolve()):
            return None
    except (OSError, RuntimeError, ValueError):  # RuntimeError: symlinks in a circle
        return None
    return status if os.access(target, os.R_OK) else None


def document(path: Path, root: Path) -> dict[str, Any]:
    """The JSON object in a file below ``root``; empty for whatever is none, or is too large to be one."""
    status = inside(path, root)
    if status is None or status.st_size > MAX_DOCUMENT_BYTES:
        return {}
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_DOCUMENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
