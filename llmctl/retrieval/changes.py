"""What has to be done so that an index is as its folder is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from llmctl.retrieval.folder import FolderFile, FolderFiles
from llmctl.retrieval.text_index import IndexedFile


class Changes(Struct, frozen=True):
    """``unread`` files are new or may have changed, ``gone`` ones are no longer where they were: removed, or renamed
    to one of ``unread``. ``unchanged`` are as many."""

    unread: tuple[FolderFile, ...]
    gone: tuple[IndexedFile, ...]
    unchanged: int


def changes(now: FolderFiles, indexed: Mapping[str, IndexedFile]) -> Changes:
    """By sizes and times alone; of what is in a folder that can't be listed nothing is taken to be gone."""
    unread = tuple(file for file in now.files if not _is_same(file, indexed.get(file.path)))
    paths = {file.path for file in now.files}
    gone = (file for path, file in indexed.items() if path not in paths and not path.startswith(now.unreadable))
    return Changes(unread, tuple(gone), len(now.files) - len(unread))


def _is_same(file: FolderFile, indexed: IndexedFile | None) -> bool:
    return indexed is not None and indexed.file == file and not (indexed.skipped and indexed.skipped.may_pass)


def by_content(files: Iterable[IndexedFile]) -> dict[bytes, IndexedFile]:
    """Those that were read, by their sha256."""
    return {file.sha256: file for file in files if file.sha256 is not None}
