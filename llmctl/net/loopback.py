"""Asking an engine on this machine by the standard library alone: to import requests takes a ninth of the time that
`llmctl run` takes to its first token."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from llmctl import __version__
from llmctl.net import timing as times
from llmctl.net.exchange import Exchange
from llmctl.net.reporting import Reporting
from llmctl.net.timing import Timing


class LoopbackSession:
    """Requests to plain http addresses, each over a connection of its own, which ends with the session."""

    def __init__(self, timing: Timing | None = None, on_sent: Callable[[int], None] | None = None) -> None:
        self.exchange = Exchange(timing or times.TIMING, on_sent)
        self.headers = {"User-Agent": f"llmctl/{__version__}", "Accept-Encoding": "identity"}
        self._connection: LoopbackConnection | None = None

    def ask(self, method: str, url: str, *, data: bytes, headers: Mapping[str, str]) -> LoopbackResponse:
        """The answer with its body unread. Raises what http.client raises, and OSError."""
        self.close()
        where = urlsplit(url)
        self.exchange.deadline.renew()
        self._connection = connection = LoopbackConnection(where.hostname or "", where.port, self.exchange)
        connection.connect()
        connection.putrequest(method, where.path, skip_accept_encoding=True)
        for name, value in {**self.headers, **headers, "Content-Length": str(len(data))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(data)
        connection.sock.settimeout(None)  # from here on the exchange's deadline ends what takes too long
        return LoopbackResponse(url, connection.getresponse(), self.exchange)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.exchange.deadline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UndecodedBody(http.client.HTTPResponse):
    """Read as urllib3's response is read."""

    def read1(self, n: int = -1, *, decode_content: bool = False) -> bytes:
        return super().read1(n)


class LoopbackConnection(Reporting, http.client.HTTPConnection):
    response_class = UndecodedBody

    def __init__(self, host: str, port: int | None, exchange: Exchange) -> None:
        super().__init__(host, port, timeout=exchange.timing.connect_s)
        self.exchange = exchange

    def connect(self) -> None:
        super().connect()
        self.exchange.deadline.watch(self.sock)


class LoopbackResponse:
    """The answer to one request, a ``net.Response``."""

    def __init__(self, url: str, raw: Any, exchange: Exchange) -> None:
        self.url, self.raw, self.exchange = url, raw, exchange
        self.status_code: int = raw.status
        self.headers = {name.title(): value for name, value in raw.getheaders()}

    def close(self) -> None:
        self.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
