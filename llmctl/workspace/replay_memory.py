"""Which sealed requests have come lately: none is answered twice, also where the gateway was started anew between."""

from __future__ import annotations

import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from llmctl.errors import ResourceError
from llmctl.files import atomic

FRESH_S = 60.0  # what a request's date and the gateway's clock may differ
KEPT_S = 2 * FRESH_S + 1  # dated a minute ahead, a request is fresh for two
MOST = 200_000  # within KEPT_S
RECORD = struct.Struct(">d32s")


class ReplayMemory:
    """Requests by their encapsulated key, which no two have in common. A line of ``file`` each is written before a
    request is answered. Context manager."""

    def __init__(self, file: Path, now_s: Callable[[], float] = time.time) -> None:
        """Raises ResourceError where the file can't be read or written."""
        self._file, self._now_s = file, now_s
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        try:
            self._seen.update(_records(file))
            self._write_anew()
        except OSError as error:
            raise ResourceError(f"{file} can't be written: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def has_seen(self, enc: bytes) -> bool:
        return enc in self._seen

    def add(self, enc: bytes) -> None:
        """The request has come. Raises ResourceError where that can't be kept, or too many have."""
        now_s = self._now_s()
        self._forget_old(now_s)
        if len(self._seen) >= MOST:
            raise ResourceError(f"{MOST:,} sealed requests in {KEPT_S:g} s, more than are kept")
        self._seen[enc] = now_s
        try:
            os.write(self._handle, RECORD.pack(now_s, enc))
            self._written += 1
            if self._written > MOST:
                os.close(self._handle)
                self._write_anew()
        except OSError as error:
            raise ResourceError(f"{self._file} can't be written: {error.strerror or error}") from error

    def _forget_old(self, now_s: float) -> None:
        while self._seen and now_s - next(iter(self._seen.values())) > KEPT_S:
            self._seen.popitem(last=False)

    def _write_anew(self) -> None:
        """Raises OSError."""
        self._forget_old(self._now_s())
        atomic.write(self._file, b"".join(RECORD.pack(at_s, enc) for enc, at_s in self._seen.items()))
        self._handle = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        self._written = len(self._seen)


def _records(file: Path) -> Iterator[tuple[bytes, float]]:
    """Those that were written whole. Raises OSError."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        while len(record := stream.read(RECORD.size)) == RECORD.size:
            at_s, enc = RECORD.unpack(record)
            yield enc, at_s
