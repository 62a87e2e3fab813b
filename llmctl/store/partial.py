"""The first bytes of a file, hashed as they are written, until it is whole and gets its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Self

from llmctl.errors import IntegrityError
from llmctl.gguf.header import read_header
from llmctl.store import disk

HASHED_AT_ONCE_BYTES = 1 << 20
MAX_VALIDATOR_BYTES = 1024


class Partial:
    """``<target>.incomplete`` and, beside it, the validator (ETag) of the server that sent it.

    Used as a context under the lock of ``target``. Bytes that are there already are hashed and kept. When the context
    ends without ``publish`` or ``discard``, the file stays for the next try, unless it is empty.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".incomplete")
        self.validator_path = target.with_name(target.name + ".incomplete.etag")
        self.done_bytes = 0
        self.joined = False  # whether the bytes came in one stream, or were put together from several
        self._hash = hashlib.sha256()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0)
        try:
            while piece := self._file.read(HASHED_AT_ONCE_BYTES):
                self._hash.update(piece)
                self.done_bytes += len(piece)
        except BaseException:
            self._file.close()
            raise
        self.joined = self.done_bytes > 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.done_bytes:
            self.discard()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def validator(self) -> str | None:
        """A strong ETag, or None if none is known."""
        try:
            with self.validator_path.open("rb") as file:
                return file.read(MAX_VALIDATOR_BYTES).decode("latin-1") or None
        except OSError:
            return None

    def note_validator(self, etag: str | None) -> None:
        """Remembers whose bytes these are. A weak or overlong ETag can't be asked for and counts as none."""
        if etag is None or not etag.startswith('"') or len(etag) > MAX_VALIDATOR_BYTES or not etag.isprintable():
            self.validator_path.unlink(missing_ok=True)
        elif etag != self.validator:
            self.validator_path.write_text(etag, "latin-1", errors="replace")

    def write(self, piece: bytes) -> None:
        """Writes at ``done_bytes``, whatever the file's own position or length."""
        self._file.seek(self.done_bytes)
        rest = memoryview(piece)
        while rest:
            written = self._file.write(rest)
            self._hash.update(rest[:written])
            self.done_bytes += written
            rest = rest[written:]

    def restart(self) -> None:
        """Forgets every byte."""
        self._file.truncate(0)
        self.validator_path.unlink(missing_ok=True)
        self.done_bytes = 0
        self.joined = False
        self._hash = hashlib.sha256()

    def check_header(self, name: str) -> None:
        """Raises IntegrityError unless the bytes are a sound GGUF file."""
        with self.path.open("rb", buffering=0) as stream:
            try:
                read_header(stream, size_bytes=self.done_bytes)
            except IntegrityError as error:
                raise IntegrityError(f"{name} {error.message}", hint=error.hint) from error

    def publish(self) -> None:
        """Gives the file its name: from here on it counts as whole, even after a power cut."""
        os.fsync(self._file.fileno())
        self._file.close()  # Windows doesn't rename open files
        self.path.replace(self.target)
        self.validator_path.unlink(missing_ok=True)
        disk.sync_folder(self.target.parent)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator_path.unlink(missing_ok=True)
