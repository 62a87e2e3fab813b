"""The program that has asked: its request's body, whether it is still there, and what is sent to it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from llmctl.server.errors import Problem, ProblemError, response
from llmctl.server.exchange import GatewayExchange
from llmctl.server.wire.shape import AnswerWriter

AsgiMessage = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
BODY_LIMIT_BYTES = 64 << 20  # as the engine's
END_OF_EVENT = b"\n\n"
EVENTS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes each event on at once
}


class ClientLeftError(Exception):
    """Nobody waits for the answer."""


async def read_body(receive: Receive) -> bytes:
    """Raises ProblemError (413) for one that is too long, and ClientLeftError."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            why = f"the body is more than {BODY_LIMIT_BYTES:,} bytes, the most that is taken"
            raise ProblemError(Problem(413, "too_large", why))
        if not message.get("more_body", False):
            return bytes(body)


async def while_connected(receive: Receive, work: Awaitable[None]) -> bool:
    """Does ``work``, or stops it when the client goes away: then False. The body has been read."""
    working, left = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, left}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        left.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Sender:
    """Sends one answer: a stream of events, or one document. Where nothing else is sent for ``ping_s``, a stream is
    kept alive, and begun if it hasn't. ``request_id`` is what the client and the log call the request."""

    def __init__(self, send: Send, scope: Scope, exchange: GatewayExchange, *, anthropic: bool) -> None:
        self._send, self._scope, self._exchange, self._anthropic = send, scope, exchange, anthropic
        self._lock = asyncio.Lock()
        self.request_id = f"req_{secrets.token_hex(12)}"
        self._named = {"request-id" if anthropic else "x-request-id": self.request_id}
        self._begun_s = self._last_s = time.monotonic()
        self._is_between_events = True
        self._is_opened = False
        self._unsent = b""
        self.has_begun = False
        self.headers: Mapping[str, str] = {}
        """Beside those that say what the body is."""

    async def keep_alive(self, writer: AnswerWriter, ping_s: float) -> None:
        """Until it is cancelled."""
        while True:
            quiet_s = time.monotonic() - self._last_s
            if quiet_s >= ping_s and self._is_between_events:
                self.open(writer)
                await self._write(writer.ping)
            await asyncio.sleep(max(ping_s - quiet_s, ping_s / 8))

    def open(self, writer: AnswerWriter) -> None:
        """What a stream begins with goes in front of what is sent next. To be called before ``writer`` makes that."""
        if not self._is_opened:
            self._is_opened = True
            self._unsent = writer.begin()

    async def event(self, data: bytes) -> None:
        """A part of a stream."""
        if self._exchange.first_s is None:
            self._exchange.first_s = time.monotonic() - self._begun_s
        if data or not self.has_begun:
            await self._write(data)

    async def document(self, body: bytes, status: int = 200) -> None:
        self._exchange.first_s = time.monotonic() - self._begun_s
        await self._start(status, {"content-type": "application/json", "content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def end(self) -> None:
        """Of a stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, problem: Problem, writer: AnswerWriter | None = None) -> None:
        """Says why there is no answer, or no more of it."""
        self._exchange.status = problem.status
        if self.has_begun and writer is not None:
            await self._write(writer.error(problem))
            await self.end()
        else:
            failed = response(problem, anthropic=self._anthropic, headers={**self._named, **self.headers})
            await failed(self._scope, _no_more, self._send)

    async def _write(self, data: bytes) -> None:
        async with self._lock:
            data, self._unsent = self._unsent + data, b""
            if not self.has_begun:
                await self._start(200, EVENTS)
            self._is_between_events = data.endswith(END_OF_EVENT) if data else self._is_between_events
            self._last_s = time.monotonic()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.has_begun = True
        self._exchange.status = status
        all_headers = {**headers, **self._named, **self.headers}
        shown = [(name.encode(), value.encode("latin-1", "replace")) for name, value in all_headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": shown})


async def _no_more() -> AsgiMessage:
    raise AssertionError("an error's answer reads nothing")
