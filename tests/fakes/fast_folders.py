"""Temporary folders of tests lie in memory where there is room: on a disk's file system a folder, its link and their
removal cost each test almost a millisecond."""

from __future__ import annotations

import os
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30  # the whole suite leaves some hundred megabytes at most at a time
FOLDERS = "PYTEST_DEBUG_TEMPROOT"  # where pytest makes its folders


def use() -> None:
    """Let pytest make its folders in memory, unless the user named a place or programs can't be started from there."""
    try:
        room = os.statvfs(IN_MEMORY)
    except OSError:
        return
    startable = not room.f_flag & os.ST_NOEXEC
    if startable and room.f_bavail * room.f_frsize >= ROOM_BYTES and os.access(IN_MEMORY, os.W_OK):
        os.environ.setdefault(FOLDERS, str(IN_MEMORY))
