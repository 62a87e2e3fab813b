"""How well documents answer a query, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl.errors import EngineError, UsageError
from llmctl.types.listener import Listener
from llmctl.workspace import encoder
from llmctl.workspace.encoder import EncoderOptions
from llmctl.workspace.texts import GivenText

if TYPE_CHECKING:
    from llmctl.settings import Settings

TASK = "rerank"


class Ranked(Struct, frozen=True):
    """``index`` is the document's place among all, from 0; ``score`` is higher for a better one, and is to be compared
    with others of the same model alone. ``truncated``: the document's end was not read."""

    id: str | int
    index: int
    score: float
    text: str
    truncated: bool = False


class Ranking(Struct, frozen=True):
    """``results``, the best first, of so many ``documents``; ``truncated`` of all documents were cut."""

    model: str
    quant: str
    documents: int
    tokens: int
    truncated: int
    results: tuple[Ranked, ...]


def ranking(
    listener: Listener,
    settings: Settings,
    query: str,
    documents: Sequence[GivenText],
    options: EncoderOptions,
    *,
    most: int | None = None,
    show: Callable[[int], None] = lambda read: None,
) -> Ranking:
    """The ``most`` documents that answer the query best; ``show`` is told how many of all have been read.

    Raises UsageError for no query and no document, ContextError for a document that is too long together with the
    query, and what ``encoder`` raises.
    """
    if not query.strip() or not documents:
        what = "document" if query.strip() else "query"
        raise UsageError(f"there is no {what}", hint='llmctl rerank "a query" "a document" "another one"')
    longest = max(len(document.text.encode("utf-8", "replace")) for document in documents)
    fit = encoder.chosen(listener, settings, TASK, options, longest + len(query.encode("utf-8", "replace")))
    scored: list[Ranked] = []
    tokens = 0
    with encoder.lent(listener, settings, fit, insist=options.insist) as engine:
        for group in encoder.groups(documents):
            texts = [document.text for document in group]
            fields = {"query": query, "documents": texts, "truncate": options.truncate}
            answer = encoder.asked(engine, fit, TASK, "/rerank", fields, group)
            tokens += _tokens(answer)
            scored += _read(answer, group, first=len(scored))
            show(len(scored))
    scored.sort(key=lambda result: (-result.score, result.index))
    model, quant = fit.candidate.model.id, fit.candidate.artifact.quant
    truncated = sum(result.truncated for result in scored)
    return Ranking(model, quant, len(scored), tokens, truncated, tuple(scored[:most]))


def _tokens(answer: Mapping[str, Any]) -> int:
    usage = answer.get("usage")
    count = usage.get("total_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def _read(answer: Mapping[str, Any], group: Sequence[GivenText], *, first: int) -> list[Ranked]:
    """Raises EngineError for an answer that is none."""
    try:
        by_index = {int(row["index"]): row for row in answer["results"]}
        return [
            Ranked(
                document.id,
                first + at,
                float(by_index[at]["relevance_score"]),
                document.text,
                bool(by_index[at].get("truncated", False)),
            )
            for at, document in enumerate(group)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EngineError("the engine's scores can't be read", hint="llmctl doctor") from error
