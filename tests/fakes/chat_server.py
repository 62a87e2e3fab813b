"""An OpenAI-compatible server on loopback that answers by script: rightly, oddly, wrongly, or not at all.

    with ChatServer(status(500), stream(event("Hi"), DONE)) as server:
        chat(server.address(), body)
    server.requests, server.connections

One reply per request, the last one for all that follow. Every segment of ``stream`` is a chunk of the transfer of its
own, and a client reads no further than to the end of a chunk at once: so the borders are the test's to choose.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from llmctl.types.endpoint import Address, Trust

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Received:
    """A request as it came in. The names of headers are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10  # a client that says nothing must not keep a test waiting
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """The test looks at ``requests`` instead."""

    def answer(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        script = self.server.script
        reply = script[min(len(self.server.received), len(script) - 1)]
        self.server.received.append(Received(self.command, self.path, headers, body))
        reply(self)

    do_GET = do_HEAD = do_POST = do_CONNECT = answer

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them: what they do after a test would be the next test's trouble

    def __init__(self, host: str, port: int, script: tuple[Reply, ...]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.script = script
        self.received: list[Received] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self.hung_up = threading.Event()
        super().__init__((host, port), Handler)

    def get_request(self) -> tuple[Any, Any]:
        self.connections += 1
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def read_no_more(self) -> None:
        """A handler that waits for what a client says next need not be waited for."""
        for connection in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or does not trust us is what is being tested."""
        self.hung_up.set()


class ChatServer:
    """``port`` 0 takes a free one, ``host`` is a number. With ``tls`` it speaks https as the name that the context's
    certificate holds."""

    def __init__(
        self, *script: Reply, tls: ssl.SSLContext | None = None, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self._server = _Server(host, port, script)
        self._host = f"[{host}]" if ":" in host else host
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )  # shaken in the thread of the connection, so that a refusal does not end the server
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}/v1"

    @property
    def requests(self) -> list[Received]:
        return self._server.received

    @property
    def connections(self) -> int:
        return self._server.connections

    @property
    def hung_up(self) -> threading.Event:
        """Set when a client has gone before the end."""
        return self._server.hung_up

    def address(self, *, token: str | None = None, ca_file: str | None = None) -> Address:
        return Address(self.url, "m", token, Trust(ca_file))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.read_no_more()
        self._server.server_close()


def data(value: object) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n".encode()


def event(text: object = None, *, finish: object = None, **delta: object) -> bytes:
    """A chunk of a chat completion whose delta holds ``text`` as content, and whatever else is given."""
    content = {} if text is None else {"content": text}
    return data({"choices": [{"index": 0, "delta": {**content, **delta}, "finish_reason": finish}]})


def stream(*segments: bytes, content_type: str = "text/event-stream") -> Reply:
    """200 and the segments, chunk by chunk, to the orderly end."""

    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type=content_type, Transfer_Encoding="chunked")
        for segment in segments:
            if segment:  # an empty chunk would be the end
                handler.chunk(segment)
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def broken_off(*segments: bytes) -> Reply:
    """200 and the segments, then the connection ends though the transfer has not."""

    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        for segment in segments:
            handler.chunk(segment)
        handler.close_connection = True

    return reply


def until_closed(*segments: bytes) -> Reply:
    """200 and the segments without a length: the end of the connection is the end of the answer, HTTP/1.0's way."""

    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Connection="close")
        handler.wfile.write(b"".join(segments))

    return reply


def endless(segment: bytes) -> Reply:
    """200 and the segment again and again until the client hangs up."""

    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        while True:
            handler.chunk(segment)

    return reply


def status(code: int, body: object = None, **headers: str) -> Reply:
    """A refusal; ``body`` as JSON unless it is bytes already."""

    def reply(handler: Handler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.head(code, Content_Length=str(len(content)), **headers)
        handler.wfile.write(content)

    return reply


def drop(handler: Handler) -> None:
    """The connection ends before a word was said."""
    handler.close_connection = True


def silence(handler: Handler) -> None:
    """The prompt was taken, and nothing comes until the client has lost patience."""
    if not handler.rfile.read(1):
        handler.server.hung_up.set()  # type: ignore[attr-defined]
    handler.close_connection = True
