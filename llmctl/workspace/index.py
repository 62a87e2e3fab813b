"""Indexes of the user's folders: begun, brought up to date, listed, removed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from llmctl.errors import LlmctlError, ResourceError
from llmctl.retrieval.text_index import TextIndex, parts
from llmctl.types.listener import Listener
from llmctl.workspace import indexes
from llmctl.workspace.index_update import LIMIT, UPDATED, Updated, updated
from llmctl.workspace.index_vectors import EMBEDDER
from llmctl.workspace.indexes import NamedIndex


class ListedIndex(Struct, frozen=True):
    """``embedder`` made the vectors of ``with_vector`` passages, None where it is searched by words alone; ``updated``
    in seconds since 1970, None where that was never finished."""

    name: str
    folder: str
    files: int
    skipped: int
    passages: int
    with_vector: int
    embedder: str | None
    bytes: int
    updated: int | None


def add(folder: Path, *, name: str | None = None, limit_bytes: int | None = None) -> NamedIndex:
    """The index of ``folder``, begun if there is none; it is as its folder is after ``update``. Files of more than
    ``limit_bytes`` are left out, mailboxes apart. Raises UsageError and ResourceError."""
    index = indexes.made(folder, name)
    if limit_bytes is not None:
        with index.opened() as opened:
            opened.note(LIMIT, str(limit_bytes))
    return index


def update(listener: Listener, index: NamedIndex) -> Updated:
    """Raises what ``index_update.updated`` raises, and ResourceError where another process changes the index."""
    with indexes.being_changed(index), index.opened() as opened:
        return updated(listener, index, opened)


def listed(index: NamedIndex) -> ListedIndex:
    with index.opened() as opened:
        return _listed(index, opened)


def _listed(index: NamedIndex, opened: TextIndex) -> ListedIndex:
    size, when = opened.size(), opened.about(UPDATED)
    return ListedIndex(
        name=index.name,
        folder=str(index.root),
        files=size.files,
        skipped=size.skipped,
        passages=size.passages,
        with_vector=size.with_vector,
        embedder=opened.about(EMBEDDER),
        bytes=size.bytes,
        updated=None if when is None else int(when),
    )


def remove(name: str) -> tuple[NamedIndex, int]:
    """Deletes the index, never a file of its folder; says which one, and how many bytes that frees. Raises
    NotFoundError, ResourceError."""
    index = indexes.get(name)
    with indexes.being_changed(index):
        freed = sum(map(_removed, parts(index.file)))
    with suppress(OSError):
        index.file.with_suffix(".lock").unlink()
    return index, freed


def _removed(file: Path) -> int:
    try:
        size = file.stat().st_size
        file.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ResourceError(f"{file} can't be removed: {error.strerror or error}") from error
    return size


def every() -> tuple[list[ListedIndex], list[LlmctlError]]:
    """All there are, by name, and why others can't be read."""
    made, broken = indexes.readable()
    return list(map(listed, made)), broken
