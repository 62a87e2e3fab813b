"""What every connection reports to its exchange, urllib3's and http.client's alike: what was sent, and for how long it
may wait."""

from __future__ import annotations

from typing import Any

from llmctl.net.exchange import Exchange

SHARE_BYTES = 64 << 10  # of a body at once, so that what was sent is counted as it goes


class Reporting:
    """Mixed into a subclass of http.client.HTTPConnection, with the exchange that it reports to."""

    exchange: Exchange
    sock: Any
    _body_follows = False

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        self._body_follows = False
        super().endheaders(*args, **kwargs)  # type: ignore[misc]
        self._body_follows = True

    def send(self, data: Any) -> None:
        """Headers at once; a body share by share, each of which may take as long as the other side takes bytes."""
        if self.sock is not None:
            self.sock.settimeout(self.exchange.timing.idle_s)  # by now it was the one for connecting
        if not self._body_follows or not isinstance(data, bytes):
            super().send(data)  # type: ignore[misc]
            return
        rest = memoryview(data)
        while rest:
            count = self.sock.send(rest[:SHARE_BYTES])
            self.exchange.sent(count)
            rest = rest[count:]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        with self.exchange.within(self.exchange.timing.answer_s):
            return super().getresponse(*args, **kwargs)  # type: ignore[misc]
