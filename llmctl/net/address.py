"""Addresses: the host that a message may name, whether it is this machine, whether two are the same server."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from llmctl.address import without_secrets
from llmctl.errors import UsageError
from llmctl.printable import printable


def host_of(url: str) -> str:
    """``host`` or ``host:port`` for messages; never user info, path or query, which may hold secrets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or url
    except ValueError:  # brackets that don't close
        return printable(url.partition("?")[0].rpartition("@")[2])
    if ":" in host and parts.hostname:
        host = f"[{host}]"
    try:
        return printable(f"{host}:{parts.port}" if parts.port else host)
    except ValueError:  # of a proxy, say: no number
        return printable(host)


def require_address(url: str) -> None:
    """Raises UsageError unless ``url`` can be one: a scheme, a host, and a port that is a number, if any."""
    try:
        where = urlsplit(url)
        usable = bool(where.scheme and is_host(where.hostname or "") and where.port != 0)
    except ValueError:  # a port that is no number or too large, brackets that don't close
        usable = False
    if not usable:
        shown = printable(without_secrets(url))
        raise UsageError(f"{shown} is not a usable address", hint="https://HOST/PATH, or https://HOST:PORT/PATH")


def is_host(name: str) -> bool:
    """Whether ``name`` can be looked up: a number, or labels of 1 to 63 characters, a dot at the end allowed."""
    if ":" in name:
        try:
            return bool(ipaddress.ip_address(name.partition("%")[0]))
        except ValueError:
            return False
    try:
        name.encode("idna")
    except UnicodeError:  # an empty label, one that is too long, letters that no name has
        return False
    return 0 < len(name) <= 253 and name.isprintable() and not set(name) & set(" /\\?#@<>^`{|}%\"'")


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own: ``localhost`` or a loopback number, not a name that looks like one."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(first: str, second: str) -> bool:
    """Whether two addresses belong to the same server: scheme, host and port, the port spelt out or not."""
    return origin(first) == origin(second)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port. Raises ValueError for what has none."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
