"""Copies of files on this machine, hashed and checked while they are copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from stat import S_ISREG

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError, UnsupportedFileError
from llmctl.files import disk
from llmctl.gguf.header import NO_FILE, read_file
from llmctl.shell import command
from llmctl.types.listener import Progress

ENDING = ".copy.llmctl"
PIECE_BYTES = 4 << 20
AGAIN = "get that file again from where it came; of models here: llmctl models verify"


def copied(file: Path, target: Path, *, sha256: str | None, progress: Progress) -> str:
    """Copies ``file`` to ``target``, which appears whole or not at all, and returns its sha256.

    With ``sha256`` an interrupted copy is resumed: if the result has another sha256, all is copied anew, once. Without
    it nothing is left of a try that fails.
    The caller has made sure of the room and that nobody else writes ``target``. Raises IntegrityError unless the bytes
    are those of ``sha256`` (if given) and a sound GGUF file, NotFoundError, AccessError, ResourceError.
    """
    partial = _partial(target)
    with disk.writing(target.parent, target.name):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            resumes = sha256 is not None and left_bytes(target) > 0
            digest = _written(file, partial, progress, resumes=resumes)
            if resumes and digest != sha256:
                digest = _written(file, partial, progress, resumes=False)
            if sha256 is not None and digest != sha256:
                raise IntegrityError(
                    f"{file} has sha256 {digest[:16]}…, it must have {sha256[:16]}…",
                    hint=AGAIN,
                )
            try:
                read_file(partial)
            except (IntegrityError, UnsupportedFileError) as error:
                hint = AGAIN if isinstance(error, IntegrityError) else error.hint
                raise type(error)(error.message.replace(str(partial), str(file), 1), hint=hint) from error
            partial.replace(target)
            disk.sync_folder(target.parent)
        except BaseException as error:
            if sha256 is None or isinstance(error, (IntegrityError, UnsupportedFileError)) or not left_bytes(target):
                partial.unlink(missing_ok=True)
            raise
    return digest


def left_bytes(target: Path) -> int:
    """Bytes of ``target`` that an interrupted copy has left."""
    try:
        status = _partial(target).lstat()
    except OSError:
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ENDING)


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
            raise NotFoundError(f"{file} is not a file", hint=_list_command(file))
        return status.st_size


def _written(file: Path, partial: Path, progress: Progress, *, resumes: bool) -> str:
    digest, size_bytes = hashlib.sha256(), size_of(file)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(partial, flags, 0o666), "r+b", buffering=0) as out:
        left = min(out.seek(0, os.SEEK_END), size_bytes) if resumes else 0
        out.truncate(left)
        out.seek(0)
        if left:
            progress(left, size_bytes)
            for piece in _read(out):
                digest.update(piece)
        for piece in _pieces(file, progress, first_byte=left):
            digest.update(piece)
            rest = piece
            while rest:
                rest = rest[out.write(rest) :]
        os.fsync(out.fileno())
    return digest.hexdigest()


def _pieces(file: Path, progress: Progress, *, first_byte: int = 0) -> Iterator[memoryview]:
    """The bytes of a regular file from ``first_byte`` on."""
    size_bytes = size_of(file)  # first of all: opening a pipe would wait for its other end
    with _reading(file), file.open("rb", buffering=0) as stream:
        done_bytes = stream.seek(first_byte)
        progress(done_bytes, size_bytes)
        for piece in _read(stream):
            yield piece
            done_bytes += len(piece)
            progress(done_bytes, size_bytes)


def _read(stream: FileIO) -> Iterator[memoryview]:
    """The rest of a file, in one buffer that is used again and again."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    while count := stream.readinto(buffer):
        yield buffer[:count]


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{file} does not exist", hint=_list_command(file.parent)) from error
    except PermissionError as error:
        raise AccessError(f"{file} may not be read by this user", hint=_list_command(file)) from error
    except OSError as error:
        kind = NotFoundError if error.errno in NO_FILE else ResourceError
        raise kind(f"{file} could not be read: {error.strerror or error}") from error


def _list_command(place: Path) -> str:
    return command("ls", "-l", names=[place])
