"""Texts as vectors: what a worker serves whose file is an embedding model."""

from __future__ import annotations

import base64
import threading
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.context import Context, Row
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.request import IGNORED, read_fields
from llmctl.engine.llama_cpp.vocabulary import Vocabulary

MOST_TEXTS = 2048
NO_POOLING, RANK_POOLING = 0, 4  # enum llama_pooling_type
FIELDS = frozenset({"input", "model", "encoding_format"}) | IGNORED


class EmbeddingRequest(Struct, frozen=True):
    texts: tuple[str, ...]
    as_base64: bool = False


def read(body: bytes) -> EmbeddingRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    if unknown := sorted(given.keys() - FIELDS):
        raise invalid(f"{unknown[0]!a:.80} is not a field that this engine knows of embeddings")
    form = given.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise invalid(f"encoding_format must be float or base64, not {form!a:.80}")
    texts = [given["input"]] if isinstance(given.get("input"), str) else given.get("input")
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_TEXTS or not all(isinstance(t, str) for t in texts):
        raise invalid(f"input must be a text, or at most {MOST_TEXTS:,} texts")
    return EmbeddingRequest(tuple(texts), as_base64=form == "base64")


class Embedder:
    """``most_tokens``: of one text, which is computed at once."""

    def __init__(self, context: Context, vocabulary: Vocabulary, width: int, most_tokens: int) -> None:
        import llama_cpp

        self._context = context
        self._vocabulary = vocabulary
        self._width = width
        self._most_tokens = most_tokens
        self._ranks = llama_cpp.llama_pooling_type(context.pointer) == RANK_POOLING
        self._computing = threading.Lock()
        llama_cpp.llama_set_embeddings(context.pointer, True)

    def answer(self, request: EmbeddingRequest, model: str) -> dict[str, Any]:
        """In OpenAI's shape. Raises RefusedError, DecodeError."""
        if self._ranks:
            raise invalid("input: this engine has a model that ranks texts, it gives no embeddings")
        tokens = [self._tokens(text, at) for at, text in enumerate(request.texts)]
        with self._computing:
            vectors = [self._vector(of_text) for of_text in tokens]
        shown = [
            base64.b64encode(vector.tobytes()).decode() if request.as_base64 else vector.tolist() for vector in vectors
        ]
        count = sum(map(len, tokens))
        return {
            "object": "list",
            "model": model,
            "data": [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(shown)],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _tokens(self, text: str, at: int) -> list[int]:
        tokens = self._vocabulary.tokens(text.encode("utf-8", "replace"), add_bos=True, special=False)
        if not 0 < len(tokens) <= self._most_tokens:
            raise invalid(f"input[{at}] is {len(tokens):,} tokens, from 1 to {self._most_tokens:,} are possible")
        return tokens

    def _vector(self, tokens: list[int]) -> Any:
        """Of length 1, as numpy has it in single precision."""
        import llama_cpp
        import numpy as np

        self._context.decode([Row(token, at, 0, True) for at, token in enumerate(tokens)])
        pointer = llama_cpp.llama_get_embeddings_seq(self._context.pointer, 0)
        vector = np.ctypeslib.as_array(pointer, shape=(self._width,)).copy()
        self._context.keep(0, 0)
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if length else vector


def embedder(model: Any, context: Context, vocabulary: Vocabulary, ubatch: int) -> Embedder | None:
    """None for a model that writes answers. ``model`` is llama.cpp's pointer."""
    import llama_cpp

    if llama_cpp.llama_pooling_type(context.pointer) <= NO_POOLING:
        return None
    most = min(context.length, context.batch, ubatch)  # a text is pooled within one batch
    return Embedder(context, vocabulary, llama_cpp.llama_model_n_embd(model), most)
