"""One file from another place on this machine, checked on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError
from llmctl.gguf.header import read_file
from llmctl.store import disk
from llmctl.store.progress import Progress

ENDING = ".copy.llmctl"
PIECE_BYTES = 4 << 20


def copied(file: Path, target: Path, *, sha256: str | None, progress: Progress) -> str:
    """Copies ``file`` to ``target``, which appears whole or not at all, and returns its sha256.

    The caller has made sure of the room and that nobody else writes ``target``. Raises IntegrityError unless the bytes
    are those of ``sha256`` (if given) and a sound GGUF file, NotFoundError, AccessError, ResourceError.
    """
    with disk.writing(target.parent, target.name):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ENDING)
        try:
            found = _written(file, partial, progress)
            if sha256 is not None and found != sha256:
                raise IntegrityError(f"{file} has sha256 {found[:16]}…, it must have {sha256[:16]}…")
            try:
                read_file(partial)
            except IntegrityError as error:
                raise IntegrityError(error.message.replace(str(partial), str(file), 1), hint=error.hint) from error
            partial.replace(target)
            disk.sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)
    return found


def hashed(file: Path, progress: Progress) -> str:
    """The sha256 of ``file``. Raises NotFoundError, AccessError, ResourceError."""
    digest = hashlib.sha256()
    for piece in _pieces(file, progress):
        digest.update(piece)
    return digest.hexdigest()


def size_of(file: Path) -> int:
    """Bytes of a regular file. Raises NotFoundError, AccessError, ResourceError."""
    with _reading(file):
        status = file.stat()
        if not S_ISREG(status.st_mode):
            raise NotFoundError(f"{file} is not a file")
        return status.st_size


def _written(file: Path, partial: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(partial, flags, 0o666), "wb", buffering=0) as out:
        for piece in _pieces(file, progress):
            digest.update(piece)
            rest = piece
            while rest:
                rest = rest[out.write(rest) :]
        os.fsync(out.fileno())
    return digest.hexdigest()


def _pieces(file: Path, progress: Progress) -> Iterator[memoryview]:
    """The bytes of a regular file, in one buffer that is used again and again."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    size_bytes = size_of(file)  # first of all: opening a pipe would wait for its other end
    with _reading(file), file.open("rb", buffering=0) as stream:
        done_bytes = 0
        progress(done_bytes, size_bytes)
        while count := stream.readinto(buffer):
            yield buffer[:count]
            done_bytes += count
            progress(done_bytes, size_bytes)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{file} does not exist") from error
    except PermissionError as error:
        raise AccessError(f"{file} may not be read by this user") from error
    except OSError as error:
        raise ResourceError(f"{file} could not be read: {error.strerror or error}") from error
