"""Files in the hub cache that were copied from a folder: their sha256 is that folder's word, not the publisher's."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

FOLDER = ".from-folders"


def record(models: Path, sha256: str) -> None:
    """Records the sha256 of a file that was copied from a folder. Write errors are ignored."""
    with suppress(OSError):
        (models / FOLDER).mkdir(parents=True, exist_ok=True)
        (models / FOLDER / sha256).touch()


def recorded(models: Path) -> frozenset[str]:
    """The sha256 of all those files. Raises nothing."""
    try:
        return frozenset(entry.name for entry in (models / FOLDER).iterdir())
    except OSError:
        return frozenset()
