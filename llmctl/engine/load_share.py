"""How much of a model has been loaded, as the parent of the process that loads it sees it."""

from __future__ import annotations

import mmap
from pathlib import Path

from llmctl.gguf.shards import shard_names

FILE_PAGES = 2  # field of /proc/PID/statm: resident pages of files (proc_pid_statm(5), "shared")


class LoadShare:
    """llama.cpp first maps the whole file and waits until it is read, of which it says nothing but what the system
    tells of mapped pages; then each tensor goes to its place, which it tells. Each counts for half; where nothing tells
    of pages, the second for all."""

    def __init__(self, pid: int, file: Path) -> None:
        self._pid = pid
        self._begun_bytes = self._mapped_bytes()
        self._bytes = _size_bytes(file)
        self._most = 0.0

    def now(self, placed: float) -> float:
        """0 to 1, never less than before. ``placed``: the share of the tensors that are in their places."""
        begun, mapped = self._begun_bytes, self._mapped_bytes()
        share = placed
        if begun is not None and mapped is not None and self._bytes:
            read = 1.0 if placed else (mapped - begun) / self._bytes
            share = (read + placed) / 2
        self._most = min(max(self._most, share), 1.0)
        return self._most

    def _mapped_bytes(self) -> int | None:
        """Of the process and those that it has started, which may load in its place."""
        try:
            started = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text("ascii").split()
        except OSError:
            started = []
        pages = list(map(_file_pages, [str(self._pid), *started]))
        return None if pages[0] is None else sum(filter(None, pages)) * mmap.PAGESIZE


def _file_pages(pid: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[FILE_PAGES])
    except (OSError, ValueError, IndexError):
        return None


def _size_bytes(file: Path) -> int:
    """Of all parts of a model that is split."""
    parts = [file.with_name(Path(name).name) for name in shard_names(file.name)]
    return sum(part.stat().st_size for part in parts if part.exists())
