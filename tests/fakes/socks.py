"""Proxies on loopback: SOCKS5 (RFC 1928, without a password), which says where its clients wanted to go, and a
tunnel by HTTP."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.fakes.chat_server import Handler, Reply

IPV4, NAME, IPV6 = 1, 3, 4


class SocksProxy:
    """``asked`` are the addresses that clients asked for, as ``host:port``. All of them are led to ``target``."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.asked: list[str] = []
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, struct.error), client.makefile("rb") as reads:
            reads.read(reads.read(2)[1])  # the ways to log in that the client knows
            client.sendall(b"\x05\x00")
            kind = reads.read(4)[3]
            raw = reads.read({IPV4: 4, IPV6: 16}.get(kind) or reads.read(1)[0])
            host = raw.decode() if kind == NAME else socket.inet_ntop({IPV4: socket.AF_INET}.get(kind, 10), raw)
            (port,) = struct.unpack(">H", reads.read(2))
            self.asked.append(f"{host}:{port}")
            with socket.create_connection(self._target) as server:
                client.sendall(b"\x05\x00\x00\x01" + bytes(6))
                back = threading.Thread(target=copied, args=(server, client), daemon=True)
                back.start()
                copied(client, server)
                back.join(10)


def copied(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            to.sendall(piece)
    with suppress(OSError):  # also where the source was reset: the other side would wait for more
        to.shutdown(socket.SHUT_WR)


def tunnel(port: int) -> Reply:
    """What an HTTP proxy does with CONNECT."""

    def reply(handler: Handler) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            handler.head(200)
            back = threading.Thread(target=copied, args=(server, handler.connection))
            back.start()
            copied(handler.connection, server)
            back.join()
        handler.close_connection = True

    return reply
