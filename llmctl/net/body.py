"""Bodies: the one way in which anything that comes over a socket is read. Every read has a limit and a deadline."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

from llmctl.errors import NetworkError
from llmctl.net.address import host_of
from llmctl.net.response import Response, exchange_of
from llmctl.net.translate import causes, foreign_errors, reason
from llmctl.printable import printable

PIECE_BYTES = 1 << 20
LEAST_PIECE_BYTES = 64 << 10
TOGETHER_BYTES = 256 << 10
INFLATED_BYTES = 64 << 10  # of a compressed body at once: a few bytes of it may stand for gigabytes


class SilentError(NetworkError):
    """The other side has sent nothing, or not all, in time."""


class Reader:
    """Reads a body as it comes in, undecoded. Its errors say what the program was ``doing``, and name the host."""

    def __init__(self, response: Response, doing: str) -> None:
        self._response, self._doing = response, doing
        self._exchange = exchange_of(response)
        self._connection = getattr(response.raw, "connection", None)

    def read(self, most_bytes: int, within_s: float | None = None) -> bytes:
        """The bytes that have arrived, 1 to ``most_bytes``; none at the end of the body.

        Waits for ``within_s`` at most, or ``timing.idle_s``. Raises SilentError then, NetworkError when the body
        breaks off.
        """
        limit_s = self._exchange.timing.idle_s if within_s is None else within_s
        if limit_s <= 0:
            raise SilentError(f"{self._doing}: {host_of(self._response.url)} did not finish in time")
        try:
            with self._exchange.within(limit_s):
                return bytes(self._response.raw.read1(most_bytes, decode_content=False))
        except Exception as error:
            if not isinstance(error, foreign_errors()):
                raise
            host = host_of(self._response.url)
            if any(isinstance(cause, TimeoutError) for cause in causes(error)):
                raise SilentError(f"{self._doing}: {host} sent nothing for {limit_s:.0f} s") from error
            raise NetworkError(f"{self._doing}: {host} broke the connection ({reason(error)})") from error

    @property
    def more(self) -> bool:
        """Whether the next read would not have to wait."""
        from urllib3.util import wait_for_read

        sock = getattr(self._connection, "sock", None)
        try:
            return sock is not None and wait_for_read(sock, timeout=0)
        except (OSError, ValueError):  # closed by another thread
            return False


def pieces(
    response: Response, doing: str, *, at_once_bytes: int = PIECE_BYTES, within_s: float | None = None
) -> Iterator[bytes]:
    """The body as it comes in, undecoded, in pieces of at most ``at_once_bytes``.

    Yields as soon as data is available; joins TLS records of 16 KiB into pieces of up to TOGETHER_BYTES. Raises
    NetworkError when the body breaks off, when nothing of it comes for ``timing.idle_s``, or when it isn't complete
    after ``within_s``, if given.
    """
    reader = Reader(response, doing)
    end_s = None if within_s is None else time.monotonic() + within_s
    collected: list[bytes] = []
    collected_bytes, ask_bytes, failed = 0, LEAST_PIECE_BYTES, None
    try:
        while piece := reader.read(min(ask_bytes, at_once_bytes - collected_bytes), _left_s(end_s)):
            if len(piece) == ask_bytes:  # a large buffer for small pieces would cost more than it saves
                ask_bytes = min(PIECE_BYTES, ask_bytes * 2)
            elif len(piece) < ask_bytes // 4:
                ask_bytes = max(LEAST_PIECE_BYTES, ask_bytes // 2)
            collected.append(piece)
            collected_bytes += len(piece)
            if collected_bytes < min(TOGETHER_BYTES, at_once_bytes) and reader.more:
                continue
            yield b"".join(collected)
            collected, collected_bytes = [], 0
    except NetworkError as error:
        failed = error
    if collected:
        yield b"".join(collected)
    if failed is not None:
        raise failed


def _left_s(end_s: float | None) -> float | None:
    return None if end_s is None else end_s - time.monotonic()


def decoded(response: Response, coming: Iterable[bytes], doing: str) -> Iterator[bytes]:
    """``coming`` without its gzip or deflate encoding, INFLATED_BYTES at once. llmctl asks for none, but some
    servers and proxies encode all the same. Raises NetworkError for others, and for what isn't what it says."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from coming
        return
    host = host_of(response.url)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise NetworkError(f"{doing}: {host} answers {printable(encoding, 40)}-encoded, which was not asked for")
    try:
        yield from _inflated(coming)
    except zlib.error as error:
        raise NetworkError(f"{doing}: {host} sends {encoding} that is broken ({error})") from error


def _inflated(coming: Iterable[bytes]) -> Iterator[bytes]:
    """Raises zlib.error."""
    inflate = None
    for piece in coming:
        rest = piece
        while rest:
            if inflate is None:  # gzip and zlib tell by their first byte; what some call deflate is neither
                bare = rest[0] != 0x1F and rest[0] & 0x0F != 8
                inflate = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            if text := inflate.decompress(rest, INFLATED_BYTES):
                yield text
            rest = inflate.unconsumed_tail
            if inflate.eof:
                rest, inflate = inflate.unused_data, None  # another member may follow


def whole(response: Response, doing: str, *, limit_bytes: int, within_s: float | None = None) -> bytes:
    """The body of a small answer, decoded. Raises NetworkError when it breaks off, is longer than ``limit_bytes``, or
    isn't complete ``within_s`` (``timing.small_s``)."""
    limit_s = exchange_of(response).timing.small_s if within_s is None else within_s
    body = bytearray()
    for piece in decoded(response, pieces(response, doing, within_s=limit_s), doing):
        body += piece
        if len(body) > limit_bytes:
            raise NetworkError(f"{doing}: {host_of(response.url)} sends more than {limit_bytes:,} bytes")
    return bytes(body)


def first_bytes(response: Response, *, limit_bytes: int, within_s: float) -> bytes:
    """The first bytes of an error's page, decoded: at most ``limit_bytes``, and what arrives ``within_s``. Raises
    nothing, since the status is what counts."""
    body = bytearray()
    with suppress(NetworkError):
        for piece in decoded(response, pieces(response, "reading the error", within_s=within_s), "reading the error"):
            body += piece
            if len(body) >= limit_bytes:
                break
    return bytes(body[:limit_bytes])
