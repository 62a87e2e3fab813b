"""The texts that a gateway's owner lets be searched: ``POST /v1/search``, and ``files`` of a chat completion, whose
answer then is from their excerpts and comes from this machine alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp

from llmctl.errors import LlmctlError
from llmctl.server import openapi
from llmctl.server.answering import PRIVATE
from llmctl.server.client import AsgiMessage, ClientLeftError, Receive, Scope, Send, read_body
from llmctl.server.errors import ProblemError, invalid, problem_of, response
from llmctl.server.wire.openai import CHAT, fields_of

SEARCH, FILES = "/v1/search", "files"
SOURCES = b"x-llmctl-sources"
USUAL_RESULTS, MOST_RESULTS = 5, 100


class OwnTexts(Protocol):
    """Both methods block. They raise NotFoundError for an index that isn't named, and what the search raises."""

    def search(self, index: str, query: str, most: int) -> Mapping[str, Any]:
        """What ``/v1/search`` answers."""

    def before(self, index: str, question: str) -> tuple[str, Sequence[Mapping[str, Any]]]:
        """``question`` behind the excerpts that suit it best, and where they are from. Raises NotFoundError where
        nothing is about it."""


class SearchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``index`` as its owner has named it; ``limit`` is how many passages are wanted."""

    index: str
    query: str
    limit: int = USUAL_RESULTS


class OwnTextsRequests:
    """Answers searches, and puts excerpts before chats that ask for them; everything else goes on as it is."""

    def __init__(self, app: ASGIApp, texts: OwnTexts) -> None:
        self._app, self._texts = app, texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == openapi.PATH:
            await _send(send, openapi.description(searches=True))
            return
        is_posted = scope["type"] == "http" and scope["method"] == "POST"
        if not is_posted or scope["path"] not in (SEARCH, CHAT):
            await self._app(scope, receive, send)
            return
        try:
            body = await read_body(receive)
            if scope["path"] == SEARCH:
                await _send(send, await self._searched(body))
                return
            fields = fields_of(body)
            if FILES not in fields:
                await self._app(scope, _again(body, receive), send)
                return
            body, sources = await self._with_excerpts(fields)
        except ClientLeftError:
            return
        except (ProblemError, LlmctlError) as error:
            problem = error.problem if isinstance(error, ProblemError) else problem_of(error)
            await response(problem, anthropic=False)(scope, receive, send)
            return
        await self._app(_private(scope), _again(body, receive), _Citing(send, sources))

    async def _searched(self, body: bytes) -> bytes:
        """Raises ProblemError and LlmctlError."""
        try:
            asked = msgspec.json.decode(body, type=SearchRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise invalid("the body", f'must be {{"index", "query", "limit"}}: {error}') from error
        if not 1 <= asked.limit <= MOST_RESULTS:
            raise invalid("limit", f"must be 1 to {MOST_RESULTS}, not {asked.limit:,}")
        if not asked.query.strip():
            raise invalid("query", "has no words")
        answer = await asyncio.to_thread(self._texts.search, asked.index, asked.query, asked.limit)
        return msgspec.json.encode(answer)

    async def _with_excerpts(self, fields: dict[str, msgspec.Raw]) -> tuple[bytes, Sequence[Mapping[str, Any]]]:
        """The body for the model. Raises ProblemError and LlmctlError."""
        try:
            index = msgspec.json.decode(fields[FILES], type=str)
        except msgspec.DecodeError as error:
            raise invalid(FILES, "must be the name of an index") from error
        messages = _messages(fields)
        question = _text(messages[-1])
        text, sources = await asyncio.to_thread(self._texts.before, index, question)
        rest = {name: value for name, value in fields.items() if name != FILES}
        with_texts = {**messages[-1], "content": _content(messages[-1], text)}
        return msgspec.json.encode({**rest, "messages": [*messages[:-1], with_texts]}), sources


def _messages(fields: Mapping[str, msgspec.Raw]) -> list[dict[str, Any]]:
    """Those of a chat whose last one is the user's. Raises ProblemError."""
    try:
        messages = msgspec.json.decode(fields.get("messages", b"[]"), type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("messages", f"must be a list of messages: {error}") from error
    if not messages or messages[-1].get("role") != "user":
        raise invalid(FILES, "needs a question: the last message must be the user's")
    return messages


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def _content(message: Mapping[str, Any], text: str) -> str | list[Any]:
    """``text`` in place of that of the message; its images stay."""
    content = message.get("content")
    if not isinstance(content, list):
        return text
    others = [part for part in content if not (isinstance(part, dict) and part.get("type") == "text")]
    return [*others, {"type": "text", "text": text}]


def _private(scope: Scope) -> Scope:
    """The same request, which no server of the user's may take over."""
    headers = [(name, value) for name, value in scope["headers"] if name != PRIVATE.encode()]
    scope["headers"] = [*headers, (PRIVATE.encode(), b"1")]
    return scope


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives the body that was read, then whatever else comes."""
    bodies = [body]

    async def given() -> AsgiMessage:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await receive()

    return given


class _Citing:
    """Sends an answer with its sources: in a header, and where it is one document also in that."""

    def __init__(self, send: Send, sources: Sequence[Mapping[str, Any]]) -> None:
        self._send, self._sources = send, sources
        self._start: AsgiMessage | None = None

    async def __call__(self, message: AsgiMessage) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            listed = json.dumps(self._sources, separators=(",", ":")).encode()
            headers = [*message["headers"], (SOURCES, listed)]
            self._start = {**message, "headers": headers}
            return
        if self._start is not None:
            start, self._start = self._start, None
            if not message.get("more_body", False) and message.get("body"):
                message = {**message, "body": _with_sources(message["body"], self._sources)}
                start["headers"] = _with_length(start["headers"], len(message["body"]))
            await self._send(start)
        await self._send(message)


def _with_sources(document: bytes, sources: Sequence[Mapping[str, Any]]) -> bytes:
    try:
        fields = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return document
    return msgspec.json.encode({**fields, "sources": sources})


def _with_length(headers: Sequence[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*others, (b"content-length", str(length).encode())]


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
