"""Texts as tokens and back: ``/tokenize`` and ``/detokenize``, in llama-server's shape."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.request import Options, kind_of, read_fields, require_known
from llmctl.engine.llama_cpp.vocabulary import Vocabulary

LONGEST_BYTES = 4 << 20
MOST_TOKENS = 1 << 20
TEXT_FIELDS: Options = {
    "content": (kind_of(str), "a text"),
    "add_special": (kind_of(bool), "true or false"),
    "parse_special": (kind_of(bool), "true or false"),
    "with_pieces": (kind_of(bool), "true or false"),
}
TOKEN_FIELDS: Options = {
    "tokens": (
        lambda value: (
            isinstance(value, list) and len(value) <= MOST_TOKENS and all(type(token) is int for token in value)
        ),
        f"a list of at most {MOST_TOKENS:,} tokens",
    ),
}


class TokenizeRequest(Struct, frozen=True):
    """``adds_special``: the tokens that the model has at the beginning and end of a text. ``parses_special``: control
    tokens may be told by their text. ``with_pieces``: each token comes with what it is in text."""

    content: str
    adds_special: bool = False
    parses_special: bool = True
    with_pieces: bool = False


def read_text(body: bytes) -> TokenizeRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, TEXT_FIELDS, {}, frozenset())
    content = given.get("content", "")
    require_short(content, "content")
    return TokenizeRequest(
        content, given.get("add_special", False), given.get("parse_special", True), given.get("with_pieces", False)
    )


def require_short(text: str, name: str) -> None:
    """Raises RefusedError for a text that would take long to tokenize, whatever comes of it."""
    if (size := len(text.encode("utf-8", "replace"))) > LONGEST_BYTES:
        raise invalid(f"{name} is {size:,} bytes, at most {LONGEST_BYTES:,} are possible")


def read_tokens(body: bytes) -> list[int]:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, TOKEN_FIELDS, {}, frozenset())
    tokens: list[int] = given.get("tokens", [])
    return tokens


def tokenized(request: TokenizeRequest, vocabulary: Vocabulary) -> dict[str, Any]:
    text = request.content.encode("utf-8", "replace")
    tokens = vocabulary.tokens(text, add_bos=request.adds_special, special=request.parses_special)
    if not request.with_pieces:
        return {"tokens": tokens}
    return {"tokens": [{"id": token, "piece": _piece(vocabulary.piece(token))} for token in tokens]}


def _piece(written: bytes) -> str | list[int]:
    """A text, or the bytes of a part of a character."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return list(written)


def detokenized(tokens: list[int], vocabulary: Vocabulary) -> dict[str, Any]:
    """Raises RefusedError (400) for a token that the model doesn't have."""
    vocabulary.require(tokens, "tokens")
    return {"content": b"".join(map(vocabulary.piece, tokens)).decode("utf-8", "replace")}
