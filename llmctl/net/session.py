"""Sessions: proxies, and what certificates are checked against.

Loopback never goes through a proxy. ``~/.netrc`` is not read: credentials are the user's explicit choice here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from llmctl import __version__
from llmctl.errors import ConfigError
from llmctl.net import timing as times
from llmctl.net.address import is_loopback, origin
from llmctl.net.exchange import Exchange, Peer
from llmctl.net.timing import Timing
from llmctl.net.translate import translated
from llmctl.types.endpoint import SYSTEM_TRUST, Trust

if TYPE_CHECKING:
    import ssl

    from llmctl.net.connection import HttpSession
    from llmctl.net.loopback import LoopbackSession


def session(
    url: str,
    *,
    trust: Trust = SYSTEM_TRUST,
    proxy: str | None = None,
    timing: Timing | None = None,
    on_sent: Callable[[int], None] | None = None,
) -> HttpSession:
    """A session for requests to ``url``; another host may need another proxy, so redirects go through ``hops``.
    ``proxy`` is the way there, in place of what the environment says.

    Certificates are checked against the CA file of ``trust`` if given, else SSL_CERT_FILE / REQUESTS_CA_BUNDLE if set,
    else the operating system's trust store (through truststore), as the user's browser would; a pin is enough without
    any of them. The client's certificate of ``trust`` is shown to a server that asks for one. ``on_sent`` is told of
    every byte of a request's body that leaves. Raises ConfigError if that file is not there.
    """
    variables = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    bundle = trust.ca_file or (None if trust.pin else variables)
    if bundle and not Path(bundle).exists():
        raise ConfigError(
            f"the CA file {bundle} does not exist",
            hint="check the endpoint's ca_file, SSL_CERT_FILE, REQUESTS_CA_BUNDLE",
        )
    exchange = Exchange(timing or times.TIMING, on_sent)
    made = _session(url, exchange, bundle or trust.pin is None, trust.pin, proxy=proxy)
    if trust.client is not None:
        made.cert = (trust.client.cert_file, trust.client.key_file)
    return made


def engine_session(*, timing: Timing | None = None, on_sent: Callable[[int], None] | None = None) -> LoopbackSession:
    """A session for requests to an engine of ours: no proxy, no certificate, no redirect, and no import of requests."""
    from llmctl.net.loopback import LoopbackSession

    return LoopbackSession(timing, on_sent)


def unverified_peer(url: str, timing: Timing | None = None, *, proxy: str | None = None) -> Peer:
    """Who answers at the https address ``url``, whatever its certificate is worth. It is asked for nothing but its
    headers, and gets no key. Raises NetworkError, and UsageError for an address that can't be one."""
    exchange = Exchange(timing or times.TIMING)
    with warnings.catch_warnings(), _session(url, exchange, False, proxy=proxy) as unverified:
        warnings.simplefilter("ignore")  # urllib3's, of what is meant here
        with translated(url, "looking at the certificate"), unverified.ask("HEAD", url):
            assert exchange.peer is not None, "it is an https address"
            return exchange.peer


def _session(
    url: str, exchange: Exchange, verify: str | bool, pin: str | None = None, *, proxy: str | None = None
) -> HttpSession:
    """``verify``: by which CA file, or whether by the system's store."""
    from llmctl.net.connection import HttpSession

    system = _system_trust() if verify is True and urlsplit(url).scheme == "https" else None
    new = HttpSession(exchange, system, pin)
    new.verify = verify
    new.headers["User-Agent"] = f"llmctl/{__version__}"
    new.headers["Accept-Encoding"] = "identity"  # model files don't compress, and ranges must mean file bytes
    new.trust_env = False  # no netrc; the two things we do want from the environment follow
    new.proxies.update(_proxies(url) if proxy is None else {urlsplit(url).scheme: proxy})
    return new


def proxy_of(url: str) -> str | None:
    """The address of the proxy that requests to ``url`` go through, None if they go straight. Raises ConfigError."""
    proxies = _proxies(url)
    return proxies.get(urlsplit(url).scheme) or proxies.get("all")


def _proxies(url: str) -> Mapping[str, str]:
    """By scheme. Raises ConfigError for one that can't be an address, which is not repeated: it may hold a password."""
    from urllib.request import getproxies

    import requests

    if is_loopback(url) or requests.utils.should_bypass_proxies(url, no_proxy=None):
        return {}
    proxies = getproxies()
    for scheme, proxy in proxies.items():
        try:
            _ = urlsplit(proxy).port
        except ValueError as error:
            raise ConfigError(
                f"the proxy for {scheme} is not a usable address",
                hint=f"check {scheme.upper()}_PROXY, for example: export {scheme.upper()}_PROXY=http://HOST:PORT",
            ) from error
    return proxies


def _system_trust() -> ssl.SSLContext:
    import ssl

    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Sessions:
    """Sessions that outlive a request, one for each server, so that the next request finds a connection open."""

    def __init__(self, timing: Timing | None = None) -> None:
        self._timing = timing
        self._made: dict[tuple[str, str | None, int | None], HttpSession] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._made.values():
            session.close()

    def shut(self) -> None:
        """Called by another thread: whatever waits for one of the servers, for headers too, ends with an error."""
        for session in list(self._made.values()):
            session.exchange.deadline.end()

    def to(self, url: str) -> HttpSession:
        """Raises ConfigError."""
        where = origin(url)
        if where not in self._made:
            self._made[where] = session(url, timing=self._timing)
        return self._made[where]
