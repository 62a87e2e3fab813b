"""Counts the tokens of a conversation where the engine has no path for that: an older llama-server writes it by its
chat template and splits the text, vLLM does both at once."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from llmctl.errors import EngineError
from llmctl.server.behind import ModelLease
from llmctl.server.upstream import Upstream, refused

TEMPLATE, TOKENIZE = "/apply-template", "/tokenize"
T = TypeVar("T")
UNKNOWN = 404  # the status of a path that an engine doesn't have


class _Prompt(Struct):
    prompt: str


class _Tokens(Struct):
    """llama-server lists them, vLLM counts them as well."""

    tokens: list[int]


async def counted(upstream: Upstream, lease: ModelLease, chat: bytes) -> bytes:
    """The tokens of the chat completion's prompt, as the engine's own path for that answers. Raises EngineError where
    it can't count, and ProblemError for what it refuses."""
    page = await _asked(upstream, lease, TEMPLATE, chat)
    if page is None:
        page = await _asked(upstream, lease, TOKENIZE, chat)
    else:
        prompt = _read(page, _Prompt).prompt
        split = {"content": prompt, "add_special": True, "parse_special": True}
        page = await _asked(upstream, lease, TOKENIZE, msgspec.json.encode(split))
    if page is None:
        raise EngineError("this model's engine can't count tokens")
    return msgspec.json.encode({"input_tokens": len(_read(page, _Tokens).tokens)})


async def _asked(upstream: Upstream, lease: ModelLease, path: str, body: bytes) -> bytes | None:
    """None where the engine has no such path."""
    async with upstream.ask(lease, path, body) as answer:
        if answer.status == UNKNOWN:
            return None
        if answer.status != 200:
            raise await refused(answer)
        return b"".join([piece async for piece in answer.pieces])


def _read(page: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(page, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError("the engine's answer to a count of tokens can't be read") from error
