"""Addresses of OpenAI-compatible servers, as people write them and as they are asked."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from llmctl import net
from llmctl.errors import UsageError
from llmctl.printable import printable

CHAT = "/chat/completions"
VERSION = re.compile(r"v\d+[a-z0-9.]*")  # v1, v4, v1beta, v1.0


def normal_url(url: str) -> str:
    """The base address of a server as it is kept: with a version in its path, whether or not the user wrote one.

    A path that has a version (``/api/paas/v4``, ``/v1beta/openai``) stays, others get ``/v1``. An address in full,
    ``…/chat/completions``, is taken at its word. The any-address becomes loopback. Raises UsageError for what can't be
    an address. User info and query are refused, they would be dropped, and not repeated, they may be secret.
    """
    if "@" in url or "?" in url or "#" in url:
        raise UsageError(
            "the address of a server can't carry a user name, a password or a query", hint="use --key-env VARIABLE"
        )
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        port = parts.port
    except ValueError as error:  # no number, out of range, brackets that don't close
        raise UsageError(f"{printable(url)} is not a usable address") from error
    host = parts.hostname or ""
    if (
        parts.scheme not in ("http", "https")
        or not net.is_host(host)
        or port == 0
        or " " in url
        or not url.isprintable()
    ):
        raise UsageError(f"{printable(url)!r} is not an http or https address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    return urlunsplit((parts.scheme, netloc, _versioned(parts.path.rstrip("/")), "", ""))


def _versioned(path: str) -> str:
    base = path.removesuffix(CHAT)
    if any(VERSION.fullmatch(segment.lower()) for segment in base.split("/")):
        return base
    return path if base != path else f"{path}/v1"


def chat_url(url: str) -> str:
    """Where a prompt is posted to, for an address that ``normal_url`` has made."""
    return url.removesuffix(CHAT) + CHAT


def models_url(url: str) -> str:
    """Where the list of models is."""
    return url.removesuffix(CHAT) + "/models"


def without_version(url: str) -> str | None:
    """The address without the ``/v1`` that may have been added to it; None if it doesn't end in one."""
    return url.removesuffix("/v1") if url.endswith("/v1") else None
