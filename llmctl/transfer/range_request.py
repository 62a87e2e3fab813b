"""Requests for a part of a file, and what their answers must be before one byte of them counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from llmctl import net
from llmctl.errors import NetworkError
from llmctl.printable import printable
from llmctl.transfer.retry import PermanentError

if TYPE_CHECKING:
    import requests

SLOW_WINDOW_S = 30.0
SLOWEST_BYTES_PER_S = 1000  # slower than this over a whole window is a connection that has died
EXPIRED = (400, 401, 403, 404, 410)  # what file hosts say of a signed address that was good before


class FileAddress:
    """Where a file is fetched from: ``url``, or the address that it has redirected to, until that expires.

    ``secret`` headers go to the origin of ``url`` only.
    """

    def __init__(self, url: str, secret: Mapping[str, str]) -> None:
        self._url, self._secret = url, secret
        self._redirected: str | None = None

    def forget_redirect(self) -> None:
        """Makes the next request begin at ``url`` again."""
        self._redirected = None

    def get(self, doing: str, headers: Mapping[str, str], sessions: net.Sessions) -> Iterator[requests.Response]:
        """The answer that is no redirect, its body unread; nothing if the redirect's address has expired. Raises
        NetworkError."""
        url, secret = (self._redirected, {}) if self._redirected else (self._url, self._secret)
        for response in net.hops("GET", url, doing=doing, headers=headers, secret=secret, sessions=sessions):
            if response.is_redirect:
                continue
            if response.status_code in EXPIRED and self._redirected is not None:
                self._redirected = None
                return
            if response.status_code < 400 and response.url != self._url:
                self._redirected = response.url
            yield response


class BodyRange(NamedTuple):
    """Bytes ``first`` up to ``end`` of a file, which a body holds; ``end`` is None where the body is the whole file,
    ``total_bytes`` where the server doesn't state its size."""

    first: int
    end: int | None
    total_bytes: int | None

    def check_first(self, first: int, response: requests.Response, doing: str, error: type[NetworkError]) -> None:
        """Raises ``error`` unless the part begins with the byte that was asked for, and isn't empty."""
        if self.first != first or (self.end is not None and self.end <= first):
            raise error(
                f"{doing}: {net.host_of(response.url)} sends bytes from {self.first}, asked for those from {first}"
            )


def part_of(response: requests.Response, doing: str) -> BodyRange:
    """What the body holds. Raises PermanentError for an answer whose body isn't bytes of the file as they are."""
    host = net.host_of(response.url)
    if response.status_code not in (200, 206):
        raise PermanentError(
            f"{doing}: {host} answers {response.status_code}, which is no answer to a request for a file"
        )
    encoding = printable(response.headers.get("Content-Encoding", "identity"), 40)
    if encoding.lower() != "identity":
        raise PermanentError(
            f"{doing}: {host} sends it {encoding}-encoded, so that its size and ranges can't be checked",
            hint="if a proxy is between, tell it to leave this host alone (NO_PROXY)",
        )
    if response.status_code == 200:
        return BodyRange(0, None, net.whole_number(response.headers.get("Content-Length")))
    return BodyRange(*net.content_range(response.headers.get("Content-Range", "")))


def flowing(
    response: requests.Response,
    doing: str,
    *,
    slowest_bytes_per_s: float | None = None,
    at_once_bytes: int = net.PIECE_BYTES,
) -> Iterator[bytes]:
    """The body as it comes in. Raises NetworkError when it breaks off, or is slower than ``slowest_bytes_per_s``
    (SLOWEST_BYTES_PER_S) over SLOW_WINDOW_S; the time in which the caller deals with a piece counts."""
    slowest = SLOWEST_BYTES_PER_S if slowest_bytes_per_s is None else min(SLOWEST_BYTES_PER_S, slowest_bytes_per_s)
    window_from_s, window_bytes = time.monotonic(), 0
    for piece in net.pieces(response, doing, at_once_bytes=at_once_bytes):
        yield piece
        window_bytes += len(piece)
        window_s = time.monotonic() - window_from_s
        if window_s >= SLOW_WINDOW_S:
            if window_bytes < slowest * window_s:
                host = net.host_of(response.url)
                raise NetworkError(f"{doing}: {host} sent only {window_bytes:,} bytes in {window_s:.0f} s")
            window_from_s, window_bytes = time.monotonic(), 0
