"""One row of numbers for each text: a vector, or the score of a model that ranks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.context import Context, DecodeError, Row
from llmctl.engine.llama_cpp.metadata import text_of
from llmctl.engine.llama_cpp.refused import RefusedError
from llmctl.engine.llama_cpp.vocabulary import Vocabulary

NO_POOLING, LAST_POOLING, RANK_POOLING = 0, 3, 4  # enum llama_pooling_type
TOGETHER_TOKENS = 256  # of several short texts
LAST_POOLINGS = (LAST_POOLING, RANK_POOLING)


class ReadText(Struct, frozen=True):
    """``is_cut``: the text has more tokens than these."""

    tokens: Sequence[int]
    is_cut: bool = False


class PooledContext:
    """``most_tokens``: of one text; ``ranks``: a row is a score, else a vector."""

    def __init__(self, model: Any, context: Context, vocabulary: Vocabulary, ubatch: int) -> None:
        import llama_cpp

        self._context = context
        self._vocabulary = vocabulary
        trained = llama_cpp.llama_model_n_ctx_train(model)  # behind it there are no embeddings of positions
        self._at_once = min(context.length, context.batch, ubatch, trained)
        self.most_tokens = context.length if self._goes_on(model) else self._at_once
        self.ranks = llama_cpp.llama_pooling_type(context.pointer) == RANK_POOLING
        width = llama_cpp.llama_model_n_cls_out if self.ranks else llama_cpp.llama_model_n_embd_out
        self._width: int = width(model)
        self._together = llama_cpp.llama_n_seq_max(context.pointer) if context.is_stateless else 1
        self._computing = threading.Lock()
        llama_cpp.llama_set_embeddings(context.pointer, True)

    def read(self, text: str | Sequence[int], name: str, *, truncates: bool) -> ReadText:
        """The tokens of a text, or those that are given, as many as can be computed. Raises RefusedError, which names
        the text by ``name``, for none, and for too many unless it ``truncates``."""
        if isinstance(text, str):
            tokens = self._vocabulary.tokens(text.encode("utf-8", "replace"), add_bos=True, special=False)
        else:
            self._vocabulary.require(text, name)
            tokens = list(text)
        if truncates and len(tokens) > self.most_tokens:  # the last one may be the mark of the end
            return ReadText([*tokens[: self.most_tokens - 1], tokens[-1]], is_cut=True)
        self.require_room(tokens, name)
        return ReadText(tokens)

    def require_room(self, tokens: Sequence[int], name: str) -> None:
        """Raises RefusedError, which names the text by ``name``."""
        count, most = len(tokens), self.most_tokens
        if not 0 < count <= most:
            code = "context_length_exceeded" if count else "invalid_request"
            message = f"{name} is {count:,} tokens, from 1 to {most:,} are possible"
            raise RefusedError(400, code, message, param=name)

    def rows(self, texts: Sequence[Sequence[int]]) -> Iterator[Any]:
        """A row for each text, as numpy has it in single precision. Raises DecodeError."""
        with self._computing:
            for group in self._groups(texts):
                yield from self._computed(group)

    def _groups(self, texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        """Texts that are computed together: more sequences than one, as long as nothing is kept of them. llama.cpp's
        output takes memory for each of their tokens."""
        most = min(self._at_once, TOGETHER_TOKENS)
        group: list[Sequence[int]] = []
        for tokens in texts:
            if group and (len(group) == self._together or sum(map(len, group)) + len(tokens) > most):
                yield group
                group = []
            group.append(tokens)
        if group:
            yield group

    def _goes_on(self, model: Any) -> bool:
        """Whether a text can be computed in parts: its row is that of its last token, which sees what is cached of
        those before it."""
        import llama_cpp

        if self._context.is_stateless or llama_cpp.llama_pooling_type(self._context.pointer) not in LAST_POOLINGS:
            return False
        architecture = (text_of(model, b"general.architecture") or "").encode()
        return text_of(model, architecture + b".attention.causal") != "false"

    def _computed(self, group: Sequence[Sequence[int]]) -> list[Any]:
        batch = [Row(token, at, number, True) for number, tokens in enumerate(group) for at, token in enumerate(tokens)]
        try:
            for begin in range(0, len(batch), self._at_once):
                self._context.decode(batch[begin : begin + self._at_once])
            return [self._row(number) for number in range(len(group))]
        finally:
            for number in range(len(group)):
                self._context.keep(number, 0)

    def _row(self, sequence: int) -> Any:
        """A copy. Raises DecodeError where llama.cpp has none."""
        import llama_cpp
        import numpy as np

        pointer = llama_cpp.llama_get_embeddings_seq(self._context.pointer, sequence)
        if not pointer:
            raise DecodeError("llama.cpp has no row for a text")
        return np.ctypeslib.as_array(pointer, shape=(self._width,)).copy()


def pooled(model: Any, context: Context, vocabulary: Vocabulary, ubatch: int) -> PooledContext | None:
    """None for a model that writes answers. ``model`` is llama.cpp's pointer."""
    import llama_cpp

    if llama_cpp.llama_pooling_type(context.pointer) <= NO_POOLING:
        return None
    return PooledContext(model, context, vocabulary, ubatch)
