"""Sealed requests: opened before they go to the routes, as if they had come in clear, and their answers sealed.

What is wrong before a request is opened is said in clear, to whoever has sent it; what is wrong with it after that goes
back sealed (RFC 9458, section 5.2).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPMethod
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from starlette.responses import Response

from llmctl.errors import LlmctlError
from llmctl.sealed.binary_http import MessageDecoder, RequestHead
from llmctl.sealed.chunks import ChunkSplitter
from llmctl.sealed.encapsulation import HEADER_BYTES, RequestOpener
from llmctl.sealed.key_configuration import listed
from llmctl.sealed.message_error import SealedMessageError
from llmctl.sealed.names import DATE_PROBLEM, KEY_PROBLEM, KEYS, NEXT_KEY, PATH, REQUESTS
from llmctl.server.client import ClientLeftError, read_body
from llmctl.server.errors import ProblemError, refusal, response
from llmctl.server.sealing import SealingSender
from llmctl.workspace.replay_memory import FRESH_S, ReplayMemory
from llmctl.workspace.seal_keys import SealKeys

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("llmctl.gateway")
PROBLEM = "application/problem+json"
LOOK_S = 3600.0
UNNAMED = "about:blank"  # a problem without a type of its own
ENC = slice(7, HEADER_BYTES)  # the encapsulated key, which no two requests have in common
NOT_PASSED = ("content-length", "transfer-encoding", "connection", "host")


class Sealing(Struct, frozen=True):
    """What a gateway opens requests with. Answers are padded to a multiple of ``pad_bytes``."""

    keys: SealKeys
    replays: ReplayMemory
    pad_bytes: int


class SealedRequests:
    """Takes what is posted to ``/.well-known/ohttp-gateway`` (RFC 9540), and passes on all else."""

    def __init__(self, app: ASGIApp, *, sealing: Sealing, now_s: Callable[[], float] = time.time) -> None:
        self._app, self._sealing, self._now_s = app, sealing, now_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            renewing = asyncio.ensure_future(self._renew())
            try:
                await self._app(scope, receive, send)
            finally:
                renewing.cancel()
        elif scope["type"] == "http" and scope["path"] == PATH:
            await self._take(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _renew(self) -> None:
        """Keys that are due are made and destroyed, also where nobody asks."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._sealing.keys.renew()
            except LlmctlError as error:
                LOG.error("the keys of sealed requests stay as they are: %s", error.message)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        if scope["method"] != HTTPMethod.POST or kinds != [REQUESTS.encode()]:
            message = f"it takes POST of {REQUESTS} alone"
            await refusal(scope, 415, "not_sealed", message)(scope, receive, send)
            return
        try:
            sealed = await read_body(receive)
            if self._sealing.replays.has_seen(sealed[ENC]):
                await _problem(UNNAMED, "this request has come before")(scope, receive, send)
                return
            opened = self._opened(sealed)
        except ProblemError as error:
            await response(error.problem, anthropic=False)(scope, receive, send)
        except ClientLeftError:
            return
        except LlmctlError as error:
            LOG.error("sealed requests are refused: %s", error.message)
            await refusal(scope, 503, "unavailable", "the gateway can't take sealed requests now")(scope, receive, send)
        except SealedMessageError as error:
            await _problem(KEY_PROBLEM, str(error))(scope, receive, send)
        else:
            await self._answer(opened, scope, receive, send)

    def _opened(self, sealed: bytes) -> OpenedRequest:
        """Raises SealedMessageError for what can't be opened, and LlmctlError."""
        if len(sealed) < HEADER_BYTES:
            raise SealedMessageError("the request is cut off")
        keys = self._sealing.keys
        private_key, newest = keys.private_key(sealed[0]), keys.newest
        if private_key is None:
            raise SealedMessageError("key identifier unknown: the key is over, or never was this gateway's")
        opener = RequestOpener(private_key, sealed[:HEADER_BYTES])
        splitter = ChunkSplitter()
        chunks = splitter.feed(sealed[HEADER_BYTES:])
        pieces = [opener.open(chunk, is_final=False) for chunk in chunks]
        pieces.append(opener.open(splitter.end(), is_final=True))
        self._sealing.replays.add(sealed[ENC])
        return OpenedRequest(opener, b"".join(pieces), None if newest.identifier == sealed[0] else newest.line)

    async def _answer(self, opened: OpenedRequest, scope: Scope, receive: Receive, send: Send) -> None:
        cipher, fields = opened.opener.answer(), [] if opened.next_key is None else [(NEXT_KEY, opened.next_key)]
        sealing = SealingSender(send, cipher, fields, self._sealing.pad_bytes)
        try:
            head, content = _message(opened.message)
        except SealedMessageError as error:
            await _problem(UNNAMED, str(error))(scope, receive, sealing)
            return
        if (why := self._not_fresh(head)) is not None:
            now = formatdate(self._now_s(), usegmt=True)
            await _problem(DATE_PROBLEM, why, date=now)(scope, receive, sealing)
        elif (head.method, head.path) == (HTTPMethod.GET, PATH):
            body = listed(self._sealing.keys.configurations)
            await Response(body, media_type=KEYS)(scope, receive, sealing)
        else:
            await self._app(_scope(scope, head, len(content)), _receiving(content, receive), sealing)

    def _not_fresh(self, head: RequestHead) -> str | None:
        """Why the request is not of now."""
        dates = [value for name, value in head.fields if name == "date"]
        with suppress(ValueError, OverflowError):
            if len(dates) == 1 and abs(parsedate_to_datetime(dates[0]).timestamp() - self._now_s()) <= FRESH_S:
                return None
        return f"date field in request outside of acceptable range: more than {FRESH_S:g} s from the gateway's"


class OpenedRequest(Struct, frozen=True):
    """``next_key`` is the line of the key that follows the one it is sealed for, None for the newest."""

    opener: RequestOpener
    message: bytes
    next_key: str | None


def _message(raw: bytes) -> tuple[RequestHead, bytes]:
    decoder = MessageDecoder()
    decoder.feed(raw)
    decoder.end()
    if not isinstance(decoder.head, RequestHead):
        raise SealedMessageError("what was sealed is no request")
    if decoder.head.path == PATH and decoder.head.method != HTTPMethod.GET:
        raise SealedMessageError("a sealed request in a sealed request")
    return decoder.head, decoder.taken()


def _scope(scope: Scope, head: RequestHead, length: int) -> Scope:
    """The request as if it had come in clear, to the same host."""
    path, _, query = head.path.partition("?")
    outer = [(name, value) for name, value in scope["headers"] if name == b"host"]
    inner = [(name.encode(), value.encode("latin-1")) for name, value in head.fields if name not in NOT_PASSED]
    return {
        **scope,
        "method": head.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [*outer, *inner, (b"content-length", str(length).encode())],
        "state": dict(scope.get("state", {})),
    }


def _receiving(content: bytes, receive: Receive) -> Receive:
    """The content, then what the client still does: leave."""
    unread = [content]

    async def received() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return received


def _problem(kind: str, title: str, **headers: str) -> Response:
    body = msgspec.json.encode({"type": kind, "title": title})
    return Response(body, 400, headers, media_type=PROBLEM)
