"""The journal of a partial file: which bytes of it are written, so that a download resumes after a crash.

A file of SLOTS slots, SLOT_BYTES each, written in turn: whenever the process dies, one of them is whole. A slot is one
line, a CRC-32 and then JSON. Once all were written the journal needs no more room, so that what a full disk holds can
be noted to the last byte.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from llmctl.host import Host
from llmctl.transfer.ranges import Ranges

SLOTS = 2
SLOT_BYTES = 4096
MOST_SPANS = 48  # what is left out counts as missing
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class JournalEntry(Struct, frozen=True):
    """``written`` outlives the process, ``synced`` also the machine. ``etag`` is a strong one or None."""

    written: Ranges
    synced: Ranges
    etag: str | None
    number: int
    boot: str | None

    @property
    def trusted(self) -> Ranges:
        """What must be in the file: after a reboot, or where the system can't tell of one, only what was synced."""
        return self.written if self.boot is not None and self.boot == boot_id() else self.synced


def boot_id() -> str | None:
    """Another one after every start of the machine; None where there is none (Linux has it)."""
    return (Host().read(BOOT_ID) or "").strip() or None


def read(path: Path) -> JournalEntry | None:
    """The latest sound entry in the journal at ``path``; None if there is none. Raises nothing."""
    try:
        with path.open("rb") as file:
            slots = [file.read(SLOT_BYTES) for _ in range(SLOTS)]
    except OSError:
        return None
    entries = [entry for entry in map(_decoded, slots) if entry is not None]
    return max(entries, key=lambda entry: entry.number, default=None)


class Journal:
    """The journal at ``path``, open for writing as a context. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        self._boot = boot_id()
        self._file: int = -1

    def __enter__(self) -> Self:
        before = read(self.path)
        self._number = before.number if before is not None else 0
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.open(self.path, flags, 0o666)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def save(self, written: Ranges, synced: Ranges, etag: str | None) -> None:
        self._number += 1
        os.lseek(self._file, self._number % SLOTS * SLOT_BYTES, os.SEEK_SET)
        os.write(self._file, _encoded(JournalEntry(written, synced, etag, self._number, self._boot)))

    def sync(self) -> None:
        """Returns when what was saved would outlast a power cut."""
        sync(self._file)


def sync(descriptor: int) -> None:
    """The content to the disk; its times need not follow, where the system makes that difference."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def _encoded(entry: JournalEntry) -> bytes:
    text = msgspec.json.encode(entry, enc_hook=lambda ranges: list(ranges)[:MOST_SPANS])
    return (b"%08x " % zlib.crc32(text) + text).ljust(SLOT_BYTES - 1) + b"\n"


def _decoded(slot: bytes) -> JournalEntry | None:
    check, _, text = slot.rstrip().partition(b" ")
    if check != b"%08x" % zlib.crc32(text):
        return None
    try:
        return msgspec.json.decode(text, type=JournalEntry, dec_hook=_ranges)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _ranges(_: type, value: Any) -> Ranges:
    spans = msgspec.convert(value, list[tuple[int, int]])
    if not all(0 <= start < end for start, end in spans):
        raise ValueError("no ranges")
    return Ranges(spans)
