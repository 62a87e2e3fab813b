"""Seals an answer while it is made, chunk by chunk, each padded so that its size doesn't tell its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmctl.sealed.binary_http import END, Field, ResponseHead, content, response_head
from llmctl.sealed.chunks import DATA_BYTES
from llmctl.sealed.encapsulation import AnswerCipher
from llmctl.sealed.integers import encoded
from llmctl.sealed.names import ANSWERS

if TYPE_CHECKING:
    from starlette.types import Message, Send

EVENTS = b"text/event-stream"
END_OF_EVENT = b"\n\n"
SHORTEST_COMMENT = b":\n\n"
HEADERS = (
    (b"content-type", ANSWERS.encode()),
    (b"incremental", b"?1"),
    (b"cache-control", b"private, no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes each chunk on at once
)


class SealingSender:
    """Stands for the ``send`` of an ASGI application. ``fields`` are added to the answer's own.

    Events are padded by comments, which readers of events pass over, and of a stream of events only whole ones are
    sealed; the end of any answer is padded by zeros.
    """

    def __init__(self, send: Send, cipher: AnswerCipher, fields: Sequence[Field], pad_bytes: int) -> None:
        self._send, self._cipher, self._fields, self._pad_bytes = send, cipher, tuple(fields), pad_bytes
        self._head = b""
        self._rest = b""  # of a stream of events, the one that isn't whole
        self._is_events = False
        self._has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: Message) -> None:
        headers = message.get("headers", ())
        self._is_events = any(name == b"content-type" and value.startswith(EVENTS) for name, value in headers)
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        self._head = response_head(ResponseHead(message["status"], (*fields, *self._fields)))

    async def _body(self, body: bytes, *, more: bool) -> None:
        piece = self._rest + body
        self._rest = b""
        if more and self._is_events:
            whole = piece.rfind(END_OF_EVENT) + len(END_OF_EVENT) if END_OF_EVENT in piece else 0
            piece, self._rest = piece[:whole], piece[whole:]
        plain, self._head = self._head + self._content(piece, more=more, before=len(self._head)), b""
        if not more:
            plain += END
            plain += bytes(-len(plain) % self._pad_bytes)
        if plain:
            await self._write(plain, more=more)

    def _content(self, piece: bytes, *, more: bool, before: int) -> bytes:
        if not piece:
            return b""
        if more and self._is_events:
            piece += comment(before, len(piece), self._pad_bytes)
        return content(piece)

    async def _write(self, plain: bytes, *, more: bool) -> None:
        parts = [plain[at : at + DATA_BYTES] for at in range(0, len(plain), DATA_BYTES)]
        sealed = b"".join(self._cipher.seal(part) for part in parts[:-1])
        sealed += self._cipher.seal(parts[-1], is_final=not more)
        if not self._has_begun:
            self._has_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            sealed = self._cipher.nonce + sealed
        await self._send({"type": "http.response.body", "body": sealed, "more_body": more})


def comment(before: int, piece_bytes: int, multiple_bytes: int) -> bytes:
    """What makes ``before`` and a piece of so many bytes, with its length, a multiple; nothing where they are one."""
    size = 0
    while True:
        total = before + len(encoded(piece_bytes + size)) + piece_bytes + size
        short = -total % multiple_bytes
        if not short and (not size or size >= len(SHORTEST_COMMENT)):
            return b":" + b" " * (size - len(SHORTEST_COMMENT)) + END_OF_EVENT if size else b""
        size += short or multiple_bytes
