"""Passages of the user's own texts that answer a question best, found without a model that writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import LlmctlError, UsageError
from llmctl.retrieval.by_words import best_by_words
from llmctl.retrieval.fusion import fused
from llmctl.retrieval.text_index import IndexedPassage, TextIndex
from llmctl.types.listener import SilentListener
from llmctl.types.role import Role
from llmctl.units import number_of
from llmctl.workspace import index as own_indexes
from llmctl.workspace import index_vectors, indexes
from llmctl.workspace.embedder import EmbedderAsked
from llmctl.workspace.indexes import NamedIndex

if TYPE_CHECKING:
    from llmctl.retrieval.vectors import Nearest
    from llmctl.settings import Settings
    from llmctl.types.listener import Listener

DEPTH = 50  # passages of each kind of search that are looked at
RERANKED = 20
ENOUGH_WORDS = 0.12  # a passage with a smaller share of the question's words is not about it
FEW_PASSAGES = 64  # without a vector get one before a search; more of them `index update` does


class SearchOptions(Struct, frozen=True):
    """The ``most`` passages that are wanted. ``by_words``: by words alone; ``private``: the question goes to no server;
    ``reranker`` orders what was found, "" is the best that there is; ``yes`` is the consent to its download."""

    most: int
    by_words: bool = False
    private: bool = False
    reranker: str | None = None
    yes: bool = False


class SearchHit(Struct, frozen=True):
    """``file`` is the path from the index's folder. ``score``, 0 to 1, is to be compared within one search. ``words``
    is how well the words of the question are in the passage, ``similarity`` how near it is in meaning (the cosine of
    the vectors), ``rank`` what a reranker gave it; None where it was not among the best of that kind, or nobody
    looked."""

    file: str
    from_line: int
    to_line: int
    score: float
    words: float | None
    similarity: float | None
    rank: float | None
    text: str


class FolderSearch(Struct, frozen=True):
    """The best of ``searched`` passages, by words and by ``embedder``, None where by words alone. ``is_about``: some of
    them seem to be about the question."""

    index: str
    folder: str
    searched: int
    embedder: str | None
    is_about: bool
    results: tuple[SearchHit, ...]


def is_index(name: str) -> bool:
    """Whether there is an index of that name, or of that folder."""
    return indexes.find(name) is not None


def current(listener: Listener, settings: Settings, name: str, *, update: bool = True) -> NamedIndex:
    """The index of that name or folder, as its folder is now if ``update``; that of a folder which has none is begun.
    Raises what ``index.add`` and ``index.update`` raise, and NotFoundError."""
    index = indexes.find(name)
    if index is None:
        index = own_indexes.add(indexes.require_folder(name))
        listener.note(f"{index.root} gets an index: llmctl index remove {index.name}   takes it away")
        own_indexes.update(listener, index)
    elif update:
        done = own_indexes.update(listener, index)
        if done.has_changed:
            changed = done.new + done.changed + done.renamed + done.removed
            listener.note(f"{index.name}: {number_of(changed, 'file')} new, changed or gone since the last time")
        _add_few_vectors(listener, settings, index)
    return index


def _add_few_vectors(listener: Listener, settings: Settings, index: NamedIndex) -> None:
    """What has no vectors gets them, if it is little and no server is asked for that."""
    name, pending = index_vectors.embedder_of(index), index_vectors.pending_passages(index)
    if name is None or not pending:
        return
    asked = EmbedderAsked.named(name)
    if not asked.is_here or pending > FEW_PASSAGES:
        missing = number_of(pending, "passage is", "passages are")
        listener.warn(f"{missing} found by words alone until: llmctl index update {index.name}")
        return
    try:
        index_vectors.add_vectors(SilentListener(), settings, index, asked)
    except LlmctlError as error:
        listener.warn(f"what is new is found by words alone: {error.message}")


def search(
    listener: Listener, settings: Settings, index: NamedIndex, question: str, options: SearchOptions
) -> FolderSearch:
    """The passages that answer ``question`` best. Without the model of the index's vectors it is searched by words
    alone, and the listener hears why. Raises UsageError for no question, what the index raises, and with a reranker
    what ``rerank.ranking`` raises."""
    if not question.strip():
        raise UsageError("there is nothing to search for", hint="llmctl search FOLDER words")
    most = RERANKED if options.reranker is not None else options.most
    with index.opened() as opened:
        embedder = None if options.by_words else opened.about(index_vectors.EMBEDDER)
        nearest = None
        if embedder is not None:
            nearest = _nearest(listener, settings, opened, question, embedder, private=options.private)
        results, is_about = _merged(opened, question, nearest, most)
        searched = opened.size().passages
    if options.reranker is not None and results:
        results = _reranked(listener, settings, question, results, options)
    return FolderSearch(
        index=index.name,
        folder=str(index.root),
        searched=searched,
        embedder=None if nearest is None else embedder,
        is_about=is_about,
        results=tuple(results[: options.most]),
    )


def _merged(opened: TextIndex, question: str, nearest: Nearest | None, most: int) -> tuple[list[SearchHit], bool]:
    """The best by words and by vectors, and whether some are about the question."""
    words = {match.passage: match.score for match in best_by_words(opened, question, DEPTH)}
    is_about = any(score >= ENOUGH_WORDS for score in words.values())
    similar: dict[int, float] = {}
    scores: dict[int, float] = words
    if nearest is not None:
        similar = {match.passage: match.similarity for match in nearest.matches}
        scores = fused(list(words), list(similar))
        is_about = is_about or any(similarity >= nearest.usual for similarity in similar.values())
    passages = opened.passages(list(scores)[:most])
    return [_hit(passage, scores, words, similar) for passage in passages], is_about


def _hit(
    passage: IndexedPassage, scores: dict[int, float], words: dict[int, float], similar: dict[int, float]
) -> SearchHit:
    place, id = passage.passage, passage.id
    return SearchHit(
        file=passage.file,
        from_line=place.from_line,
        to_line=place.to_line,
        score=scores[id],
        words=words.get(id),
        similarity=similar.get(id),
        rank=None,
        text=place.text,
    )


def _nearest(
    listener: Listener, settings: Settings, opened: TextIndex, question: str, name: str, *, private: bool
) -> Nearest | None:
    """By the vectors of the index; None where the question gets none."""
    from llmctl.retrieval import vectors
    from llmctl.workspace import embedder

    try:
        with embedder.opened(SilentListener(), settings, EmbedderAsked.named(name), private=private) as makes:
            (vector,) = makes.vectors([question], Role.QUERY)
    except LlmctlError as error:
        listener.warn(f"searched by words alone: {error.message}")
        return None
    return vectors.nearest(opened, vector, DEPTH)


def _reranked(
    listener: Listener, settings: Settings, question: str, hits: Sequence[SearchHit], options: SearchOptions
) -> list[SearchHit]:
    """By a reranker on this machine, the best first."""
    from llmctl.workspace.encoder import EncoderOptions
    from llmctl.workspace.rerank import ranking
    from llmctl.workspace.texts import GivenText

    documents = [GivenText(number, hit.text, f"{hit.file}:{hit.from_line}") for number, hit in enumerate(hits)]
    asked = EncoderOptions(options.reranker or None, truncate=True, local=True, yes=options.yes)
    ranked = ranking(listener, settings, question, documents, asked)
    return [replace(hits[result.index], rank=result.score) for result in ranked.results]
