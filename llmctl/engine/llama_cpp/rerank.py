"""How well documents answer a query: ``/v1/rerank`` of a worker whose file is a reranker, in Jina's shape."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.pooling import PooledContext, ReadText
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.request import Options, kind_of, read_fields, require_known, whole_number
from llmctl.engine.llama_cpp.tokens import require_short
from llmctl.engine.llama_cpp.vocabulary import Vocabulary

MOST_DOCUMENTS = 2048
PLACES = re.compile(r"\{(query|document)\}")  # in a file's template
FIELDS: Options = {
    "model": (kind_of(str), "a text"),
    "query": (kind_of(str), "a text"),
    "top_n": (whole_number(1, 1 << 31), "a whole number from 1"),
    "return_documents": (kind_of(bool), "true or false"),
    "truncate": (kind_of(bool), "true or false"),
}


class RerankRequest(Struct, frozen=True):
    """``most``: results that are wanted, the best ones. ``truncates``: the end of a document that is too long is cut.
    ``returns_documents``: a result comes with its text."""

    query: str
    documents: tuple[str, ...]
    most: int | None = None
    truncates: bool = False
    returns_documents: bool = False


def read(body: bytes) -> RerankRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, FIELDS, {}, frozenset({"documents"}))
    if not given.get("query"):
        raise invalid("query must be a text")
    require_short(given["query"], "query")
    documents = given.get("documents")
    if not isinstance(documents, list) or not 0 < len(documents) <= MOST_DOCUMENTS:
        raise invalid(f"documents must be a list of at most {MOST_DOCUMENTS:,} texts")
    return RerankRequest(
        given["query"],
        tuple(_document(document, at) for at, document in enumerate(documents)),
        most=given.get("top_n"),
        truncates=given.get("truncate", False),
        returns_documents=given.get("return_documents", False),
    )


def _document(value: Any, at: int) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise invalid(f"documents[{at}] must be a text, or an object with a text")
    require_short(text, f"documents[{at}]")
    return text


class Reranker:
    """``template``: the file's own for a query and a document."""

    def __init__(self, context: PooledContext, vocabulary: Vocabulary, template: str | None) -> None:
        self._context = context
        self._vocabulary = vocabulary
        self._template = template
        self._marks = _marks(vocabulary.pointer)

    def answer(self, request: RerankRequest, model: str) -> dict[str, Any]:
        """In Jina's shape, the best first. Raises RefusedError, DecodeError."""
        pairs = [self._pair(request, at) for at in range(len(request.documents))]
        scores = [float(row[0]) for row in self._context.rows([pair.tokens for pair in pairs])]
        order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))[: request.most]
        count = sum(len(pair.tokens) for pair in pairs)
        return {
            "object": "list",
            "model": model,
            "results": [_result(request, at, scores[at], pairs[at]) for at in order],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _pair(self, request: RerankRequest, at: int) -> ReadText:
        """The query with one document, of which the end may go."""
        document = request.documents[at]
        tokens = self._tokens(request.query, document)
        while request.truncates and document and len(tokens) > self._context.most_tokens:
            document = document[: len(document) * self._context.most_tokens // len(tokens)]
            tokens = self._tokens(request.query, document)
        self._context.require_room(tokens, f"documents[{at}]")
        return ReadText(tokens, is_cut=document != request.documents[at])

    def _tokens(self, query: str, document: str) -> list[int]:
        if self._template is not None:
            given = {"query": query, "document": document}
            return self._vocabulary.tokens(
                PLACES.sub(lambda place: given[place[1]], self._template).encode("utf-8", "replace")
            )
        texts = (text.encode("utf-8", "replace") for text in (query, document))
        first, second = (self._vocabulary.tokens(text, special=False) for text in texts)
        begin, between, end = self._marks
        return [*begin, *first, *between, *second, *end]


def answer(request: RerankRequest, reranker: Reranker | None, model: str) -> dict[str, Any]:
    """As ``Reranker.answer``. Raises RefusedError where there is no reranker, too."""
    if reranker is None:
        raise invalid("documents: this engine has no model that ranks texts")
    return reranker.answer(request, model)


def _result(request: RerankRequest, at: int, score: float, pair: ReadText) -> dict[str, Any]:
    """``truncated`` is our own addition."""
    result: dict[str, Any] = {"index": at, "relevance_score": score}
    if request.returns_documents:
        result["document"] = {"text": request.documents[at]}
    return {**result, "truncated": True} if pair.is_cut else result


def _marks(vocab: Any) -> tuple[list[int], list[int], list[int]]:
    """What stands before a query, between it and a document, and behind that. As llama-server has it, but for BERT's
    mark behind the document, which it leaves out."""
    import llama_cpp

    separator = [llama_cpp.llama_vocab_sep(vocab)]
    last = llama_cpp.llama_vocab_eos(vocab)
    end = [last] if last >= 0 else separator
    begin = [llama_cpp.llama_vocab_bos(vocab)] if llama_cpp.llama_vocab_get_add_bos(vocab) else []
    ends = end if llama_cpp.llama_vocab_get_add_eos(vocab) else []
    separates = separator if llama_cpp.llama_vocab_get_add_sep(vocab) else []
    return begin, [*ends, *separates], ends or separates
