"""How long and how large the requests of one connection may be, and how long it may leave answers unread.

uvicorn's protocol with limits of its own: it has none for a head or a body that never ends, nor for a client that
doesn't read. Whatever goes beyond one costs that connection and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

OPEN_FILES = 4096
BODY_BYTES = 64 << 20  # as the engine takes them
SYSTEM_BUFFER_BYTES = 256 << 10  # of what was sent to one client: the system would keep megabytes of it


class RequestLimits(Struct, frozen=True):
    """``head_s``: from the first byte of a request, or the connection, to the end of its headers. A body may take
    ``body_s`` and as long again as ``body_bytes_per_s`` take for it. ``unread_s``: so long a client may
    take for the next ``read_bytes`` of what was sent to it, or all there is. Beyond ``connections`` new ones are closed
    at once. ``look_s`` is how often times are looked at."""

    head_bytes: int = 32 << 10
    head_s: float = 15.0
    body_bytes: int = BODY_BYTES
    body_s: float = 30.0
    body_bytes_per_s: int = 10_000
    unread_s: float = 60.0
    read_bytes: int = 32 << 10
    connections: int = 512
    look_s: float = 1.0


def allow_open_files() -> None:
    """As many as the system lets this process have: a request takes one for its client, and one for its engine."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class LimitedProtocol(HttpToolsProtocol):
    """One connection. ``limits`` are those of all."""

    limits = RequestLimits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM_BUFFER_BYTES)
        self._head_since_s: float | None = self.loop.time()  # None while no request is expected to begin
        self._head_bytes = 0  # of the head that is not complete
        self._fields_bytes = 0  # of its fields that are
        self._body_since_s: float | None = None  # None outside of a body
        self._body_bytes = 0
        self._unread_since_s: float | None = None  # None while the client reads
        self._unread_bytes = 0  # then
        self._timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._timer = self.loop.call_later(self.limits.look_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        is_head = self._body_since_s is None
        if is_head and self._head_since_s is None:
            self._head_since_s = self.loop.time()
        super().data_received(data)
        if is_head and self._head_since_s is not None:  # it still is: all of the data was of the head
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes and not self.transport.is_closing():
                self._refuse(431)

    def on_message_begin(self) -> None:
        self._fields_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_field(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_field(len(name) + len(value))
        super().on_header(name, value)

    def _count_field(self, size: int) -> None:
        """Raises ValueError, by which the parser stops: ``send_400_response`` follows."""
        self._fields_bytes += size
        if self._fields_bytes > self.limits.head_bytes:
            raise ValueError

    def send_400_response(self, msg: str) -> None:
        if self._fields_bytes > self.limits.head_bytes:
            self._refuse(431)
        else:
            super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        self._head_since_s, self._head_bytes = None, 0
        self._body_since_s, self._body_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > 2 * self.limits.body_bytes:  # it was refused at half of that, and goes on all the same
            self.transport.abort()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_since_s = None
        super().on_message_complete()

    def resume_writing(self) -> None:
        self._unread_since_s = None
        super().resume_writing()

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _look(self) -> None:
        now_s = self.loop.time()
        if self._is_unread(now_s):
            self.transport.abort()
            return
        self._timer = self.loop.call_later(self.limits.look_s, self._look)
        if not self.transport.is_closing() and (self._head_is_late(now_s) or self._body_is_late(now_s)):
            self._refuse(408)

    def _head_is_late(self, now_s: float) -> bool:
        if self._head_since_s is None:
            return False
        if self._is_answering:  # what comes meanwhile may wait
            self._head_since_s = now_s
        return now_s - self._head_since_s > self.limits.head_s

    def _body_is_late(self, now_s: float) -> bool:
        if self._body_since_s is None:
            return False
        if self.flow.read_paused:  # nobody here takes it
            self._body_since_s += self.limits.look_s
        allowed_s = self.limits.body_s + self._body_bytes / self.limits.body_bytes_per_s
        return now_s - self._body_since_s > allowed_s

    def _is_unread(self, now_s: float) -> bool:
        """Whether the client has left what was sent to it for too long: in the middle of an answer, or after it."""
        size = self.transport.get_write_buffer_size()
        if not (self.flow.write_paused or (size and not self._is_answering)):
            self._unread_since_s = None
            return False
        if self._unread_since_s is None or self._unread_bytes - size >= self.limits.read_bytes:
            self._unread_since_s, self._unread_bytes = now_s, size
        return now_s - self._unread_since_s > self.limits.unread_s

    def _refuse(self, status: int) -> None:
        """Ends the connection, and says why where no answer has begun."""
        if self._is_answering and self.cycle.response_started:
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
