"""Copies of files on this machine, hashed and checked while they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError, UnsupportedFileError
from llmctl.files import disk
from llmctl.gguf.header import NO_FILE
from llmctl.shell import command
from llmctl.transfer.partial_file import PartialFile
from llmctl.transfer.ranges import Span
from llmctl.types.listener import Progress

PIECE_BYTES = 4 << 20
AGAIN = "get that file again from where it came; of models here: llmctl models verify"


def copied(file: Path, target: Path, *, sha256: str | None, progress: Progress) -> str:
    """Copies ``file`` to ``target``, which appears whole or not at all, and returns its sha256.

    With ``sha256`` an interrupted copy is resumed: if the result has another sha256, all is copied anew, once. Without
    it nothing is left of a try that fails.
    The caller has checked the room, and holds the lock of ``target``. Raises IntegrityError unless the bytes
    are those of ``sha256`` (if given) and a sound GGUF file, NotFoundError, AccessError, ResourceError.
    """
    with disk.writing(target.parent, target.name), PartialFile(target) as partial:
        try:
            if sha256 is None:
                partial.restart()
            digest = _written(file, partial, progress)
            if partial.joined and digest != sha256:
                partial.restart()
                digest = _written(file, partial, progress)
            if sha256 is not None and digest != sha256:
                raise IntegrityError(f"{file} has sha256 {digest[:16]}…, it must have {sha256[:16]}…", hint=AGAIN)
            partial.check_header(str(file))
        except BaseException as error:
            if isinstance(error, IntegrityError):
                error.hint = AGAIN
            if sha256 is None or isinstance(error, IntegrityError | UnsupportedFileError):
                partial.discard()
            raise
        partial.publish()
    return digest


def _written(file: Path, partial: PartialFile, progress: Progress) -> str:
    """Copies the bytes of ``file`` that are missing in ``partial``. Returns the sha256 of all."""
    size_bytes = size_of(file)
    if partial.written.end > size_bytes:
        partial.restart()
    progress(partial.done_bytes, size_bytes)
    for at, piece in _pieces(file, partial.written.gaps(size_bytes)):
        partial.write(at, piece, partial.epoch)
        progress(partial.done_bytes, size_bytes)
    if partial.written.prefix_bytes < size_bytes:
        raise ResourceError(f"{file} became shorter while it was copied", hint="run the same command again")
    return partial.sha256(size_bytes)


def hashed(file: Path, progress: Progress) -> str:
    """The sha256 of ``file``. Raises NotFoundError, AccessError, ResourceError."""
    digest, size_bytes = hashlib.sha256(), size_of(file)
    progress(0, size_bytes)
    for at, piece in _pieces(file, [(0, size_bytes)]):
        digest.update(piece)
        progress(at + len(piece), size_bytes)
    return digest.hexdigest()


def size_of(file: Path) -> int:
    """Bytes of a regular file. Raises NotFoundError, AccessError, ResourceError."""
    with _reading(file):
        status = file.stat()
        if not S_ISREG(status.st_mode):
            raise NotFoundError(f"{file} is not a file", hint=_list_command(file))
        return status.st_size


def _pieces(file: Path, spans: Iterable[Span]) -> Iterator[tuple[int, bytes]]:
    """The bytes of ``spans`` of a regular file (opening a pipe would wait), each piece with its offset."""
    with _reading(file), file.open("rb", buffering=0) as stream:
        for start, end in spans:
            at = stream.seek(start)
            while piece := stream.read(min(PIECE_BYTES, end - at)):
                yield at, piece
                at += len(piece)


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
