"""Room on the disk, and what the operating system says when there is none."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llmctl import units
from llmctl.errors import ResourceError
from llmctl.shell import command

ELSEWHERE = "export HF_HOME=/path XDG_DATA_HOME=/path"
FULL = (errno.ENOSPC, errno.EDQUOT)


# What a download leaves free for everything else that lives on the filesystem: a hundredth of it, within these bounds.
LEAST_RESERVE_BYTES = 64 << 20
MOST_RESERVE_BYTES = 1 << 30


def require_room(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises ResourceError unless the filesystem that holds (or will hold) ``folder`` has ``needed_bytes`` free, and
    something beyond that for others. Nothing needed always fits."""
    require_rooms({folder: needed_bytes}, what)


def require_rooms(needed: Mapping[Path, int], what: str) -> None:
    """The same for several folders, some of which may be on the same filesystem: bytes by folder."""
    by_disk: dict[int, list[Path]] = {}
    for folder in needed:
        if needed[folder] > 0:
            by_disk.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        usage = shutil.disk_usage(_existing(folders[0]))
        needed_bytes = sum(needed[folder] for folder in folders)
        reserve_bytes = _reserve_bytes(usage.total)
        if needed_bytes + reserve_bytes > usage.free:
            raise ResourceError(
                f"{what} needs {units.size(needed_bytes)}, {units.size(usage.free)} is free in "
                f"{' and '.join(map(str, folders))}, of which {units.size(reserve_bytes)} must stay free",
                hint=f"free some space there, or keep models on another disk: {ELSEWHERE}",
            )


def require_reserve(folder: Path, done_bytes: int, what: str) -> None:
    """Raises ResourceError if less than the reserve is free on the filesystem of ``folder``, while ``what`` is written,
    of which ``done_bytes`` are."""
    usage = shutil.disk_usage(_existing(folder))
    reserve_bytes = _reserve_bytes(usage.total)
    if usage.free < reserve_bytes:
        raise ResourceError(
            f"{what} has filled the disk: {units.size(done_bytes)} of it is written, {units.size(usage.free)} is free "
            f"in {folder}, of which {units.size(reserve_bytes)} must stay free",
            hint=f"free some space there, or keep models on another disk: {ELSEWHERE}",
        )


def _reserve_bytes(disk_bytes: int) -> int:
    return max(LEAST_RESERVE_BYTES, min(MOST_RESERVE_BYTES, disk_bytes // 100))


def _existing(folder: Path) -> Path:
    """The deepest folder of the path of ``folder`` that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def folder_bytes(folder: Path) -> int:
    """The files below ``folder``, as far as it can be read."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(_bytes(file) for file in files)


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # gone meanwhile
        return 0


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Turns OSError from work below ``folder`` into ResourceError. ``what`` is being written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(
                f"the disk ran full while {what} was written to {folder}",
                hint="free some space and run the same command again",
            ) from error
        if error.errno == errno.EFBIG:
            raise ResourceError(
                f"{what} is larger than a file may be in {folder}",
                hint="check ulimit -f, or keep models on another filesystem",
            ) from error
        raise ResourceError(
            f"{what} can't be written to {error.filename or folder}: {error.strerror or error}",
            hint=f"{command('ls', '-ld', names=[folder])}; keep models elsewhere: {ELSEWHERE}",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` outlast a power cut, where the system lets folders be synced."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
