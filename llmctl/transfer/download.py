"""One file over HTTP: resumed, hashed while it is written, checked before it gets its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.errors import IntegrityError, LlmctlError, NetworkError, ResourceError, UnsupportedFileError
from llmctl.files import disk
from llmctl.transfer.connection import RemoteFile
from llmctl.transfer.partial_file import PartialFile
from llmctl.transfer.rate_limit import RateLimit
from llmctl.transfer.transfer import Transfer
from llmctl.types.listener import Progress

if TYPE_CHECKING:
    import requests

__all__ = ["RemoteFile", "download"]

AGAIN = "run the same command again; if it happens again, the source has another file than it says"


def download(
    remote: RemoteFile,
    target: Path,
    *,
    refused: Callable[[requests.Response], LlmctlError],
    progress: Progress,
    limit_bytes_per_s: float | None = None,
) -> None:
    """Downloads the file to ``target``. The caller holds its lock; ``refused`` makes an error of a status from 400 on.

    Resumes what an earlier try has left. Raises ResourceError (no room), NetworkError, IntegrityError (what was
    received is removed) and what ``refused`` makes. The partial file is kept after the first two, but not after a
    ResourceError where the size of the whole is not stated.
    """
    limit = RateLimit(limit_bytes_per_s)
    with disk.writing(target.parent, remote.name), PartialFile(target) as partial:
        if remote.bytes is not None and partial.written.end > remote.bytes:
            partial.restart()
        try:
            sha256 = _fetched(Transfer(remote, partial, refused, progress, limit=limit))
            if sha256 != remote.sha256 and partial.joined:
                # perhaps what was there before was never of this file, or the server is at odds with itself: the
                # whole of it in one piece, once
                partial.restart()
                sha256 = _fetched(Transfer(remote, partial, refused, progress, limit=limit, alone=True))
        except ResourceError as error:
            if remote.bytes is None and partial.done_bytes:  # it may be endless, so it is not kept
                partial.discard()
                error.hint = f"{error.hint}; what was received is removed, since its size is not stated"
            raise
        except NetworkError as error:
            kept = f": it goes on after {units.size(partial.done_bytes)}" if partial.done_bytes else ""
            error.hint = error.hint or f"run the same command again{kept}"
            raise
        except IntegrityError as error:
            if remote.bytes is None:
                partial.discard()
            error.hint = error.hint or AGAIN
            raise
        if sha256 != remote.sha256:
            partial.discard()
            raise IntegrityError(
                f"{remote.name} arrived with sha256 {sha256[:16]}…, it must have {remote.sha256[:16]}…",
                hint=AGAIN,
            )
        try:
            partial.check_header(remote.name)
        except (IntegrityError, UnsupportedFileError) as error:
            partial.discard()
            error.hint = "its sha256 is right, so the file at the source is like that: choose another"
            raise
        partial.publish()


def _fetched(transfer: Transfer) -> str:
    transfer.run()
    return transfer.partial.sha256(transfer.partial.done_bytes)
