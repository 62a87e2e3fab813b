"""Requests without a prompt, along the redirects that a hub and its file hosts answer with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from llmctl.errors import NetworkError
from llmctl.net.address import host_of, is_host, origin, same_origin
from llmctl.net.body import first_bytes
from llmctl.net.headers import whole_number
from llmctl.net.session import Sessions, session
from llmctl.net.timing import Timing
from llmctl.net.translate import translated

if TYPE_CHECKING:
    import requests

MAX_REDIRECTS = 6
REDIRECT_BYTES = 16 << 10
REDIRECT_S = 1.0


def hops(
    method: str,
    url: str,
    *,
    doing: str,
    headers: Mapping[str, str],
    secret: Mapping[str, str],
    sessions: Sessions | None = None,
    timing: Timing | None = None,
) -> Iterator[requests.Response]:
    """The answers along the redirects from ``url``; the last one is no redirect, and its body is unread.

    Each answer is closed when the next is asked for, and its connection with it unless the answer was read to its end
    and ``sessions`` are given. ``secret`` headers (a token) go to the origin of ``url`` only, and no more once that was
    left. Raises NetworkError (CertificateError) that names the host that failed, also for redirects that turn in
    circles, leave HTTP, or lead from https to http.
    """
    for _ in range(MAX_REDIRECTS):
        with nullcontext(sessions.to(url)) if sessions is not None else session(url, timing=timing) as open_session:
            with translated(url, doing):
                response = open_session.ask(method, url, headers={**headers, **secret})
            with response:
                yield response
                if sessions is not None and response.is_redirect:
                    _finish(response)
        target = redirect_target(response, doing)
        if target is None:
            return
        if not same_origin(url, target):
            secret = {}
        url = target
    raise NetworkError(f"{doing}: {host_of(url)} redirects in circles")


def _finish(response: requests.Response) -> None:
    """Reads the body of a redirect if it is a small one, so that its connection can be used again."""
    if (whole_number(response.headers.get("Content-Length")) or 0) <= REDIRECT_BYTES:
        first_bytes(response, limit_bytes=REDIRECT_BYTES + 1, within_s=REDIRECT_S)


def redirect_target(response: requests.Response, doing: str) -> str | None:
    """Where ``response`` redirects, or None if it doesn't. Raises NetworkError for an unsafe address."""
    if not response.is_redirect:
        return None
    try:
        location = response.headers["Location"].encode("latin-1").decode()  # what a header holds beyond ASCII is UTF-8
        target = urljoin(response.url, location)
        scheme, host, _ = origin(target)
        safe = scheme in ("https", origin(response.url)[0]) and is_host(host or "") and target.isprintable()
    except ValueError:
        safe = False
    if not safe:
        raise NetworkError(f"{doing}: {host_of(response.url)} redirects to an address that can't be followed safely")
    return target
