"""Small files that llmctl keeps: written whole or not at all, read with a bound."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

OWN = 0o600
SHARED = 0o666  # less what the user's mask takes away


def write(file: Path, content: bytes | bytearray, *, mode: int = OWN, lasting: bool = False) -> None:
    """Puts ``content`` at ``file`` and makes the folders above: readers, and a crash, find the old file or the new one.

    ``lasting``: also after a power cut. Raises OSError, and then leaves what was there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{os.urandom(4).hex()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(beside, flags, mode), "wb") as out:
            out.write(content)
            if lasting:
                out.flush()
                os.fsync(out.fileno())
        beside.replace(file)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def write_json(file: Path, value: Any) -> None:
    """Writes plain JSON, a cache entry or a record; a failure to write is ignored."""
    with suppress(OSError):
        write(file, json.dumps(value).encode())


def read_json(file: Path, most_bytes: int, kind: type[T]) -> T | None:
    """The JSON of that ``kind`` in ``file``; None if there is none, it is broken, or longer than ``most_bytes``."""
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(most_bytes), type=kind)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
