"""urllib3's connections and requests' session, as this package uses them. Import it inside functions: both are heavy.

Beyond what they do by themselves: connecting has an end, name look-up included, and Ctrl-C ends it; sending lasts as
long as the other side takes bytes, and they are counted; headers have a deadline; nothing is read of a redirect.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError

from llmctl.net.exchange import Exchange, Peer
from llmctl.net.reporting import Reporting


class WatchedConnection(Reporting):
    """Mixed into a connection class of urllib3's: also connecting has a deadline, and a pin is required."""

    pin: str | None  # that the key of the other side's certificate must have
    host: str

    def _new_conn(self) -> socket.socket:
        opened = _in_time(super()._new_conn, self, self.exchange.timing.connecting_s)  # type: ignore[misc]
        self.exchange.deadline.watch(opened)
        return opened

    def connect(self) -> None:
        with self.exchange.within(2 * self.exchange.timing.connecting_s):  # a proxy may trickle its answer
            super().connect()  # type: ignore[misc]
        self.exchange.deadline.watch(self.sock)
        if hasattr(self.sock, "getpeercert"):
            self.exchange.peer = Peer(self.sock.getpeercert(binary_form=True) or b"", self.sock.version() or "")
            if self.pin is not None:
                self._require_pinned(self.exchange.peer)

    def _require_pinned(self, peer: Peer) -> None:
        """Called before anything is sent. Raises what a certificate that can't be verified raises; urllib3 then closes
        the connection."""
        from llmctl.net.certificate import certificate

        pin = certificate(peer.certificate).pin
        if pin != self.pin:
            raise ssl.SSLCertVerificationError(1, f"the certificate's key is {pin}, not the one that is pinned")
        self.is_verified = True  # by its key: urllib3 needn't warn


def _in_time(connect: Any, connection: Any, seconds: float) -> socket.socket:
    """What ``connect`` returns. A look-up of a name can be neither interrupted nor limited, so it is done in a thread
    that is left behind. Raises what ``connect`` raises, ConnectTimeoutError."""
    if _is_number(connection.host):
        return connect()  # type: ignore[no-any-return]
    done, left_behind = threading.Event(), threading.Event()
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(connect())
        except BaseException as error:  # noqa: BLE001  for the thread that waits
            outcome.append(error)
        done.set()
        if left_behind.is_set() and isinstance(outcome[0], socket.socket):
            outcome[0].close()

    threading.Thread(target=run, name="connect", daemon=True).start()
    try:
        if not done.wait(seconds):
            raise ConnectTimeoutError(connection, f"{connection.host} not connected in {seconds:g} s")
    except BaseException:
        left_behind.set()
        raise
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]  # type: ignore[no-any-return]


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


class Adapter(HTTPAdapter):
    """Connects as urllib3 does, with connections that report to ``exchange``; ``trust`` checks certificates, and their
    keys must have the ``pin``, if there is one."""

    def __init__(self, exchange: Exchange, trust: ssl.SSLContext | None, pin: str | None = None) -> None:
        self._exchange, self._trust, self._pin = exchange, trust, pin
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._trusting())
        self._report(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # where private CAs matter most
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs, **self._trusting())
        if is_new:
            self._report(manager)
        return manager

    def _trusting(self) -> dict[str, Any]:
        return {} if self._trust is None else {"ssl_context": self._trust}

    def _report(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _reporting(pool, self._exchange, self._pin)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }


def _reporting(pool: type[Any], exchange: Exchange, pin: str | None) -> type[Any]:
    connection = type("WatchedConnection", (WatchedConnection, pool.ConnectionCls), {"exchange": exchange, "pin": pin})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class HttpSession(requests.Session):
    """A session whose ``exchange`` knows what was sent and how long anything may take. It follows no redirect."""

    def __init__(self, exchange: Exchange, trust: ssl.SSLContext | None, pin: str | None = None) -> None:
        super().__init__()
        self.exchange = exchange
        self.mount("http://", Adapter(exchange, None))
        self.mount("https://", Adapter(exchange, trust, pin))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests would read the whole body of a redirect, also of one that it isn't to follow."""
        return None

    def ask(self, method: str, url: str, **more: Any) -> requests.Response:
        """The answer with its body unread. Raises what requests raises."""
        timing = self.exchange.timing
        self.exchange.deadline.renew()
        timeout = urllib3.Timeout(connect=timing.connect_s, read=max(timing.idle_s, timing.answer_s))
        response = self.request(method, url, stream=True, allow_redirects=False, timeout=timeout, **more)  # type: ignore[arg-type]
        response.exchange = self.exchange  # type: ignore[attr-defined]
        return response

    def close(self) -> None:
        super().close()
        self.exchange.deadline.close()
