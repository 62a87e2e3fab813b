"""Which files in the hub cache came out of a folder: what their sha256 is, only that folder said, and no publisher."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

FOLDER = ".from-folders"


def note(models: Path, sha256: str) -> None:
    """Remembers a file that came out of a folder. Who can't write remembers nothing."""
    with suppress(OSError):
        (models / FOLDER).mkdir(parents=True, exist_ok=True)
        (models / FOLDER / sha256).touch()


def noted(models: Path) -> frozenset[str]:
    """The sha256 of all those files. Raises nothing."""
    try:
        return frozenset(entry.name for entry in (models / FOLDER).iterdir())
    except OSError:
        return frozenset()
