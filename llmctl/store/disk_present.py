"""The disk that the store is on, recorded: if it isn't mounted, the store isn't taken for a new one."""

from __future__ import annotations

import os
from pathlib import Path

from llmctl import paths
from llmctl.errors import ResourceError
from llmctl.files import atomic
from llmctl.shell import command

MAX_RECORD_BYTES = 1 << 20


def check(root: Path) -> None:
    """Records which disk ``root`` is on, or will be.

    Raises ResourceError if that disk isn't mounted and nothing lies in its mount point: a new store there would hide
    the models, and fill the wrong disk.
    """
    disks = atomic.read_json(_file(), MAX_RECORD_BYTES, dict[str, str]) or {}
    disk = disks.get(str(root))
    place = Path(os.path.realpath(root))
    if disk is not None and not Path(disk).is_mount() and not _holds(place):
        raise ResourceError(
            f"the models are in {root}, and {disk} is not mounted",
            hint=f"mount it; or, if it is gone for good: {command('rm', names=[_file()])}",
        )
    mounted_at = next((str(folder) for folder in (place, *place.parents) if folder.is_mount()), place.anchor)
    if mounted_at != disk and (disk is not None or mounted_at != place.anchor):
        atomic.write_json(_file(), {**disks, str(root): mounted_at})


def _holds(place: Path) -> bool:
    """Whether there are models at ``place``: each of them is in a folder. What the hub's tools leave in every
    cache (their locks, a version) is no model."""
    try:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in place.iterdir())
    except OSError:
        return False


def _file() -> Path:
    return paths.data_dir() / "mounts.json"
