"""Runs the gateway's application on a socket, until it is stopped."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import uvicorn
from starlette.types import ASGIApp

DRAIN_S = 30  # that open answers have to finish
IDLE_CONNECTION_S = 75
LOOK_S = 0.1


class Gateway:
    """``listening`` is bound; ``protocol`` is a class of uvicorn's HTTP protocols. Nothing is logged of requests."""

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        protocol: Any = "httptools",
        drain_s: int = DRAIN_S,
    ) -> None:
        self._socket = listening
        # For the sockets that it accepts, which inherit it: asyncio leaves out those whose protocol isn't named. Else a
        # piece of an answer waits until the one before it was acknowledged, for 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=drain_s,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = _Server(config)

    @property
    def is_listening(self) -> bool:
        return self._server.started

    def run(self) -> None:
        """Serves until ``stop``. Blocks."""
        self._server.run(sockets=[self._socket])

    def stop(self, *, at_once: bool = False) -> None:
        """By any thread or a signal handler: open answers may finish, unless ``at_once``."""
        self._server.force_exit = self._server.force_exit or at_once
        self._server.should_exit = True


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Signals are for whoever runs the gateway."""
        from contextlib import nullcontext

        return nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting_off = asyncio.ensure_future(self._cut_off_when_forced())
        try:
            await super().shutdown(sockets)
        finally:
            cutting_off.cancel()

    async def _cut_off_when_forced(self) -> None:
        """Ends the connections that are open: from Python 3.12 on the end of a server waits for them."""
        while not self.force_exit:
            await asyncio.sleep(LOOK_S)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
