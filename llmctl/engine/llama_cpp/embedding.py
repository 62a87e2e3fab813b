"""Texts as vectors: ``/v1/embeddings`` of a worker whose file is an embedding model."""

from __future__ import annotations

import base64
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.pooling import PooledContext, ReadText
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.request import Options, kind_of, read_fields, require_known
from llmctl.engine.llama_cpp.tokens import require_short

MOST_TEXTS = 2048
AS_IT_IS, LENGTH_OF_ONE = -1, 2  # llama-server's numbers
FIELDS: Options = {
    "model": (kind_of(str), "a text"),
    "truncate": (kind_of(bool), "true or false"),
    "encoding_format": (lambda value: value in ("float", "base64"), "float or base64"),
    "embd_normalize": (
        lambda value: type(value) is int and value in (AS_IT_IS, LENGTH_OF_ONE),
        f"{LENGTH_OF_ONE} for vectors of length 1, or {AS_IT_IS}",
    ),
}
Text = str | tuple[int, ...]


class EmbeddingRequest(Struct, frozen=True):
    """``texts`` are texts, or their tokens. ``truncates``: what is too long is cut."""

    texts: tuple[Text, ...]
    as_base64: bool = False
    normalises: bool = True
    truncates: bool = False


def read(body: bytes) -> EmbeddingRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, FIELDS, {}, frozenset({"input"}))
    return EmbeddingRequest(
        _texts(given.get("input")),
        as_base64=given.get("encoding_format") == "base64",
        normalises=given.get("embd_normalize", LENGTH_OF_ONE) == LENGTH_OF_ONE,
        truncates=given.get("truncate", False),
    )


def _texts(value: Any) -> tuple[Text, ...]:
    texts = [value] if isinstance(value, str) or (isinstance(value, list) and _are_tokens(value)) else value
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_TEXTS:
        raise invalid(f"input must be a text, or at most {MOST_TEXTS:,} texts")
    if not all(isinstance(text, str) or (isinstance(text, list) and _are_tokens(text)) for text in texts):
        raise invalid(f"input must be a text, or at most {MOST_TEXTS:,} texts, or lists of tokens")
    for at, text in enumerate(texts):
        if isinstance(text, str):
            require_short(text, f"input[{at}]")
    return tuple(text if isinstance(text, str) else tuple(text) for text in texts)


def _are_tokens(value: list[Any]) -> bool:
    return bool(value) and all(type(token) is int for token in value)


def answer(request: EmbeddingRequest, context: PooledContext | None, model: str) -> dict[str, Any]:
    """In OpenAI's shape. Raises RefusedError, DecodeError."""
    if context is None:
        raise invalid("input: this engine has a model that writes answers, it gives no embeddings")
    if context.ranks:
        raise invalid("input: this engine has a model that ranks texts, it gives no embeddings")
    texts = [context.read(text, f"input[{at}]", truncates=request.truncates) for at, text in enumerate(request.texts)]
    vectors = context.rows([text.tokens for text in texts])
    count = sum(len(text.tokens) for text in texts)
    return {
        "object": "list",
        "model": model,
        "data": [_row(request, at, text, vector) for at, (text, vector) in enumerate(zip(texts, vectors, strict=True))],
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _row(request: EmbeddingRequest, at: int, text: ReadText, vector: Any) -> dict[str, Any]:
    """``tokens`` and ``truncated`` are our own additions."""
    shown = _normalised(vector) if request.normalises else vector
    embedding = base64.b64encode(shown.tobytes()).decode() if request.as_base64 else shown.tolist()
    row = {"object": "embedding", "index": at, "embedding": embedding, "tokens": len(text.tokens)}
    return {**row, "truncated": True} if text.is_cut else row


def _normalised(vector: Any) -> Any:
    import numpy as np

    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
