"""How fast the disk that holds the models reads, without the system's cache: large files of ours on the same disk."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from llmctl.files import measured_cache

SUBJECT = "disk"
LEAST_BYTES = 4 << 20  # read from fewer, a rate says more of the first access than of the disk
MOST_BYTES = 64 << 20
MOST_S = 0.25
BLOCK_BYTES = 1 << 20  # a multiple of every disk's sector, as O_DIRECT wants it


def cached(folder: Path) -> float | None:
    """Bytes per second that were measured earlier on the disk of ``folder``; None if none were."""
    key = _key(folder)
    rate = None if key is None else measured_cache.read(SUBJECT, key)
    return rate if isinstance(rate, float) and rate > 0 else None


def measure(folder: Path) -> None:
    """Reads for MOST_S at most, and keeps the rate; the faster one of several measurements stays. Raises nothing."""
    key = _key(folder)
    rates = [rate for file in _files(folder) if (rate := rate_of(file)) is not None]
    if key is not None and rates:
        measured_cache.write(SUBJECT, key, max([*rates, cached(folder) or 0.0]))


def rate_of(file: Path) -> float | None:
    """Bytes per second of reading a file past the system's cache; None where it is small, or can't be read so."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    except OSError:
        return None
    begun, size = time.perf_counter(), 0
    with contextlib.closing(mmap.mmap(-1, BLOCK_BYTES)) as block:  # memory of whole pages
        try:
            while size < MOST_BYTES and time.perf_counter() - begun < MOST_S:
                got = os.preadv(descriptor, [block], size)
                size += got
                if got < BLOCK_BYTES:
                    break
        except OSError:
            return None
        finally:
            os.close(descriptor)
    return size / (time.perf_counter() - begun) if size >= LEAST_BYTES else None


def _files(folder: Path) -> Iterator[Path]:
    """The largest file of the engine, or of Python, if it is on the disk of ``folder``."""
    if not hasattr(os, "O_DIRECT") or not hasattr(os, "preadv"):
        return  # Windows and macOS would answer from their cache
    device = _device(folder)
    folders = [Path(sysconfig.get_path("platlib")) / "llama_cpp" / "lib", Path(sys.base_prefix) / "lib"]
    files = (file for place in folders if place.is_dir() for file in place.iterdir() if file.is_file())
    on_disk = sorted((file.stat().st_size, file) for file in files if _device(file) == device)
    yield from [file for _, file in on_disk[-1:]]


def _key(folder: Path) -> tuple[object, ...] | None:
    device = _device(folder)
    return None if device is None else (device,)


def _device(path: Path) -> int | None:
    """The number of the filesystem that holds ``path``, or will when it is made."""
    for place in (path, *path.parents):
        try:
            return place.stat().st_dev
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
