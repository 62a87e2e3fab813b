"""A proxy at which TLS ends: it reads and keeps all that passes, and may change the answers."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import trustme

Change = Callable[[bytes], bytes]
HOP = ("transfer-encoding", "connection", "content-length")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """``ReadingProxy.log`` has it all."""

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.log += f"{self.requestline}\r\n".encode() + bytes(self.headers) + body
        self.server.bodies.append(body)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.to_port, timeout=30)
        with suppress(OSError):  # whoever has asked may leave
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            self._answer(upstream.getresponse())
        upstream.close()
        self.close_connection = True

    do_GET = do_HEAD = do_POST = pass_on

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.server.log += bytes(answer.headers)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        change = self.server.change
        while piece := answer.read1(1 << 16) if change is None else answer.read():
            self.server.log += piece
            self.wfile.write(piece if change is None else change(piece))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, to_port: int, change: Change | None) -> None:
        self.to_port, self.change = to_port, change
        self.log = bytearray()
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests want."""


class ReadingProxy:
    """Before the server at ``to_port`` of loopback. ``change`` gets each answer's whole body."""

    def __init__(self, to_port: int, change: Change | None = None, *, authority: trustme.CA | None = None) -> None:
        self._server = _Server(to_port, change)
        self._scheme = "http"
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def log(self) -> bytes:
        return bytes(self._server.log)

    @property
    def bodies(self) -> list[bytes]:
        """Of the requests."""
        return self._server.bodies

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()
