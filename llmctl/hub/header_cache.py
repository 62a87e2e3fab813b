"""A cache of what the hub said: headers and lists of files, under the cache folder, of at most MOST_BYTES."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from llmctl import paths
from llmctl.files import atomic

MOST_BYTES = 256 << 20  # some forty headers with a large vocabulary


def path_of(name: str) -> Path:
    """The file of an entry, whether or not it exists. ``name`` has no folder in it."""
    return paths.cache_dir() / "remote" / name


def write(name: str, raw: bytes | bytearray) -> None:
    """Writes an entry, and evicts what was unused for longest beyond MOST_BYTES. Write errors are ignored."""
    file = path_of(name)
    with suppress(OSError):
        atomic.write(file, raw)
        _evict(file)


def mark_used(file: Path) -> None:
    """Sets the access time of ``file`` to now; its modification time, by which others know it, stays."""
    with suppress(OSError):
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))


def _evict(newest: Path) -> None:
    """Removes the files that were used last before all others, until the rest is within MOST_BYTES."""
    files = []
    for file in newest.parent.iterdir():
        with suppress(OSError):  # another process has removed it
            about = file.stat()
            files.append((about.st_atime_ns, about.st_size, file))
    total_bytes = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total_bytes <= MOST_BYTES:
            return
        if file != newest:
            with suppress(OSError):
                file.unlink()
                total_bytes -= size
