"""Whether a request is meant for this gateway, or a web page has sent a browser here.

A page can have its own name resolve to this machine (DNS rebinding): its requests then come from the browser's own
machine, but with the page's name in the Host header. And any page can send requests to an address that it can't read
answers from: those carry its Origin.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.datastructures import Headers

from llmctl.server.errors import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class AllowedHosts(Struct, frozen=True):
    """Of ``names`` one that begins with a dot stands for all below it. ``any_address``: any IP address, as no page's
    name is one."""

    names: frozenset[str]
    any_address: bool = False

    def __contains__(self, host: str) -> bool:
        below = (host[at:] for at, letter in enumerate(host) if letter == ".")
        return host in self.names or any(name in self.names for name in below) or self._is_any_address(host)

    def _is_any_address(self, host: str) -> bool:
        return self.any_address and _is_address(host)


def allowed_hosts(bound: str, extra: Iterable[str] = ()) -> AllowedHosts:
    """The hosts by which a gateway that listens at the address ``bound`` may be called: loopback, that address, the
    machine's own name, and ``extra``. One that listens at every address may be called by any."""
    names = {_bare(name) for name in (bound, socket.gethostname(), *extra)}
    return AllowedHosts(LOOPBACK_NAMES | names, _is_address(bound) and ipaddress.ip_address(bound).is_unspecified)


class HostCheck:
    """Refuses requests for hosts that aren't ``allowed``, and those of pages from elsewhere, preflights among them."""

    def __init__(self, app: ASGIApp, *, allowed: AllowedHosts) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or (host := host_name(hosts[0])) is None or host not in self._allowed:
            message = "the Host header names no host of this gateway: llmctl serve --allow-host NAME allows one"
            await refusal(scope, 421, "host_not_allowed", message)(scope, receive, send)
        elif any(origin != f"{scope['scheme']}://{hosts[0]}".lower() for origin in map(str.lower, origins)):
            message = "a page from elsewhere may not use this gateway"
            await refusal(scope, 403, "origin_not_allowed", message)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def host_name(header: str) -> str | None:
    """The host in a Host header, without port and brackets, in lower case; None where there is none."""
    try:
        split = urlsplit(f"//{header}")
        split.port  # noqa: B018  # raises for what is no port
        host = split.hostname
    except ValueError:
        return None
    return None if split.path or split.query or split.fragment or "@" in header or not host else _bare(host)


def _bare(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
