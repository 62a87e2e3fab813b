"""An HTTP proxy that notes to which hosts it was asked to connect: what a browser requests, counted from outside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

BLOCK = 65_536
HEAD_END = b"\r\n\r\n"


class CountingProxy:
    """``hosts`` are those asked for, "127.0.0.1:80", each time that one was."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request a connection: the next comes on a new one."""
        with client, suppress(OSError, ValueError):
            head = b""
            while HEAD_END not in head and (block := client.recv(BLOCK)):
                head += block
            method, target, version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            where = urlsplit(f"//{target}" if method == "CONNECT" else target)
            self.hosts.append(where.netloc)
            with socket.create_connection((where.hostname or "", where.port or 80)) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    path = where._replace(scheme="", netloc="").geturl() or "/"
                    fields = head.split(b"\r\n", 1)[1].replace(b"Proxy-Connection: keep-alive", b"Connection: close")
                    server.sendall(f"{method} {path} {version}\r\n".encode("latin-1") + fields)
                threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
                _pass_on(server, client)


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            to.sendall(block)
        to.shutdown(socket.SHUT_WR)


@contextmanager
def counting_proxy() -> Iterator[CountingProxy]:
    proxy = CountingProxy()
    try:
        yield proxy
    finally:
        proxy.close()
