"""Passages of the user's own texts that answer a question best, found without a model that writes."""

from __future__ import annotations

from msgspec import Struct

from llmctl.errors import UsageError
from llmctl.retrieval.by_words import WordMatch, best_by_words
from llmctl.retrieval.text_index import IndexedPassage
from llmctl.types.listener import Listener
from llmctl.units import number_of
from llmctl.workspace import index as own_indexes
from llmctl.workspace import indexes
from llmctl.workspace.indexes import NamedIndex

DEPTH = 50  # passages of each kind of search that are looked at
ENOUGH_WORDS = 0.12  # a passage with a smaller share of the question's words is not about it


class SearchHit(Struct, frozen=True):
    """``file`` is the path from the index's folder. ``score``, 0 to 1, is to be compared within one search;
    ``words`` is how well the words of the question are in the passage; None where it was not among the best."""

    file: str
    from_line: int
    to_line: int
    score: float
    words: float | None
    text: str


class FolderSearch(Struct, frozen=True):
    """The best of ``searched`` passages. ``is_about``: the best of them seem to be about the question."""

    index: str
    folder: str
    searched: int
    is_about: bool
    results: tuple[SearchHit, ...]


def is_index(name: str) -> bool:
    """Whether there is an index of that name, or of that folder."""
    return indexes.find(name) is not None


def current(listener: Listener, name: str, *, update: bool = True) -> NamedIndex:
    """The index of that name or folder, as its folder is now if ``update``; that of a folder which has none is begun.
    Raises what ``index.add`` and ``index.update`` raise, and NotFoundError."""
    index = indexes.find(name)
    is_new = index is None
    if index is None:
        index = own_indexes.add(indexes.require_folder(name))
        listener.note(f"{index.root} gets an index: llmctl index remove {index.name}   takes it away")
    if update or is_new:
        done = own_indexes.update(listener, index)
        if done.has_changed and not is_new:
            changed = done.new + done.changed + done.renamed + done.removed
            listener.note(f"{index.name}: {number_of(changed, 'file')} new, changed or gone since the last time")
    return index


def search(index: NamedIndex, question: str, *, most: int) -> FolderSearch:
    """The ``most`` passages that answer ``question`` best. Raises UsageError for no question, and what the index
    raises."""
    if not question.strip():
        raise UsageError("there is nothing to search for", hint="llmctl search FOLDER words")
    with index.opened() as opened:
        by_words = best_by_words(opened, question, max(most, DEPTH))
        passages = opened.passages(match.passage for match in by_words[:most])
        return FolderSearch(
            index=index.name,
            folder=str(index.root),
            searched=opened.size().passages,
            is_about=any(match.score >= ENOUGH_WORDS for match in by_words),
            results=tuple(map(_hit, passages, by_words)),
        )


def _hit(found: IndexedPassage, match: WordMatch) -> SearchHit:
    lines = found.passage
    return SearchHit(found.file, lines.from_line, lines.to_line, match.score, match.score, lines.text)
