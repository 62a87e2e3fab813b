"""The tokens of a model: from text, and what they are in text."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llmctl.engine.llama_cpp.refused import invalid
from llmctl.thoughts.marks import Marks, marks_for

LONGEST_TOKEN_BYTES = 256
ENDS_OF_MARKS = (">", "]", "▷")


class Vocabulary:
    """The tokens of a model as prompts and answers are made of them. ``pointer`` is llama.cpp's."""

    def __init__(self, pointer: Any, name: str, template: str) -> None:
        import llama_cpp

        self.pointer = pointer
        self.size: int = llama_cpp.llama_vocab_n_tokens(pointer)
        self.rows = marks_for(name)
        self.lone = [row for row in self.rows if row.stands_in(template) or self._is_token(row.close[0])]
        self.bos = self.text(llama_cpp.llama_vocab_bos(pointer))
        self.eos = self.text(llama_cpp.llama_vocab_eos(pointer))
        self._marks: dict[int, str] = {}

    @property
    def has_chatml(self) -> bool:
        return self._is_token("<|im_start|>")

    def _is_token(self, text: str) -> bool:
        return len(self.tokens(text.encode())) == 1

    def tokens(self, text: bytes, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """``special``: control tokens are told by their text."""
        import llama_cpp

        size = len(text) + 2  # a token has a byte at least, and there may be one in front and one behind
        tokens = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(self.pointer, text, len(text), tokens, size, add_bos, special)
        if count < 0:
            tokens = (llama_cpp.llama_token * -count)()
            count = llama_cpp.llama_tokenize(self.pointer, text, len(text), tokens, -count, add_bos, special)
        return tokens[:count]

    def text(self, token: int) -> str:
        """A token's text even if it is a control token; empty for no token."""
        return self.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def piece(self, token: int) -> bytes:
        """As ``text``, before it is decoded: a token may be a part of a character."""
        return self._piece(token, special=True)

    def require(self, tokens: Sequence[int], field: str) -> None:
        """Raises RefusedError, which names the ``field``, for a token that the model doesn't have."""
        if unknown := [token for token in tokens if not 0 <= token < self.size]:
            raise invalid(f"{field}: {unknown[0]} is no token of this model, which has {self.size:,}")

    def ends(self, token: int) -> bool:
        import llama_cpp

        return bool(llama_cpp.llama_vocab_is_eog(self.pointer, token))

    def bytes_of(self, token: int) -> bytes:
        """What a token is in text: nothing for a control token."""
        return self._piece(token, special=False)

    def _piece(self, token: int, *, special: bool) -> bytes:
        """The binding's own function loses tokens of more than 32 bytes."""
        import llama_cpp

        length = LONGEST_TOKEN_BYTES
        while True:
            buffer = ctypes.create_string_buffer(length)
            length = llama_cpp.llama_token_to_piece(self.pointer, token, buffer, len(buffer), 0, special)
            if length >= 0:
                return buffer.raw[:length]
            length = -length

    def mark(self, token: int) -> str:
        """The text of a control token if it is, or is part of, a mark of thoughts that this model uses; else empty."""
        if token not in self._marks:
            text = self.text(token)
            used = [row for row in self.rows if any(text in mark for mark in row.all)] if len(text) > 2 else []
            self._marks[token] = text if any(self._uses(row) for row in used) else ""
        return self._marks[token]

    def _uses(self, row: Marks) -> bool:
        """Whether a mark of the row begins with a token of its own, as no text does that was cut into words."""
        marks = (*row.open, *row.close) if row.lone_close else row.open
        return any(
            self.text(token).endswith(ENDS_OF_MARKS) for mark in marks for token in self.tokens(mark.encode())[:1]
        )
