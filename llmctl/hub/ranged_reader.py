"""The beginning of a file on the hub, as far as it is read, requested range by range."""

from __future__ import annotations

from collections.abc import Generator
from io import SEEK_CUR, SEEK_END
from typing import TYPE_CHECKING

from llmctl import net
from llmctl.errors import IntegrityError, NetworkError
from llmctl.hub import files
from llmctl.hub.token import token
from llmctl.settings import Settings
from llmctl.transfer.range_request import FileAddress, flowing, part_of
from llmctl.transfer.retry import PermanentError, RetryBudget
from llmctl.types.model import Source

if TYPE_CHECKING:
    import requests


class RangedReader:
    """A file on the hub, open for reading: requests the next ``range_bytes`` only when they are read.

    All bytes that were received stay in memory, ``received``, so callers must limit what they read. The token goes to
    the hub alone, not to the host that it sends files from. From a server without ranges the body is read as far as
    needed. Reading raises NetworkError, AccessError, NotFoundError, and IntegrityError for a file of another size than
    ``source`` states, in a message that lacks its subject, as ``read_header`` does.
    """

    def __init__(self, source: Source, *, settings: Settings, sessions: net.Sessions, range_bytes: int) -> None:
        self.received = bytearray()
        self.total_bytes = source.bytes
        self._source = source
        self._hub_url = settings.hub_url.rstrip("/")
        self._own = token(self._hub_url)
        self._location = FileAddress(files.address(settings, source), self._own.headers if self._own else {})
        self._sessions = sessions
        self._range_bytes = range_bytes
        self._at = 0
        self._etag: str | None = None
        self._body: Generator[bytes, None, None] | None = None
        self._patience = RetryBudget()
        self._refilled_at = 0
        self._over = False  # there is nothing after the bytes that were received

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == SEEK_END:
            offset += len(self.received) if self.total_bytes is None else self.total_bytes
        elif whence == SEEK_CUR:
            offset += self._at
        self._at = max(0, offset)
        return self._at

    def read(self, count: int, /) -> bytes:
        """At least one byte of the ``count``, or none at the file's end."""
        while len(self.received) <= self._at and not self._over:
            self._receive_more()
        piece = bytes(self.received[self._at : self._at + count])
        self._at += len(piece)
        return piece

    def start(self) -> None:
        """Requests the first bytes, so that ``total_bytes`` is known if the server states it."""
        if not self.received and not self._over:
            self._receive_more()

    def close(self) -> None:
        """Ends reading; the rest of an open body is not received."""
        if self._body is not None:
            self._body.close()
        self._body, self._over = None, True

    def _receive_more(self) -> None:
        """Adds the next piece to ``received``, at least one byte before the end of the file."""
        while not self._over:
            try:
                self._body = self._body or self._answer()
                piece = next(self._body, None)
            except NetworkError as error:
                self._body = None
                self._location.forget_redirect()
                if len(self.received) >= self._refilled_at + self._range_bytes:
                    self._refilled_at = len(self.received)
                    self._patience.refill()
                self._patience.wait(error)
                continue
            if piece:
                self.received += piece
                return
            self._body = None
            if self.total_bytes is not None and len(self.received) >= self.total_bytes:
                self._over = True

    @property
    def _doing(self) -> str:
        return f"fetching the header of {self._source.file}"

    def _answer(self) -> Generator[bytes, None, None]:
        """The body of one answer as it comes in. Sets ``_over`` at the end of a body that is the whole file."""
        first = len(self.received)
        headers = {"Range": f"bytes={first}-{first + self._range_bytes - 1}"}
        for response in self._location.get(self._doing, headers, self._sessions):
            yield from self._received(response, first)

    def _received(self, response: requests.Response, first: int) -> Generator[bytes, None, None]:
        host, status = net.host_of(response.url), response.status_code
        if status == 416:
            _, _, total_bytes = net.content_range(response.headers.get("Content-Range", ""))
            if (first or total_bytes == 0) and (total_bytes or first) <= first:
                self._expect(total_bytes, host)
                self._over = True  # there is no such part: what is here is all there is
                return
        if status >= 400:
            raise files.refused(self._hub_url, self._source, self._own, response)
        part = part_of(response, self._doing)
        etag = response.headers.get("ETag")
        if None not in (etag, self._etag) and etag != self._etag:
            raise PermanentError(f"{self._doing}: the file at {host} has changed", hint="run the same command again")
        self._etag = etag or self._etag
        if part.end is not None:
            part.check_first(first, response, self._doing, PermanentError)
        self._expect(part.total_bytes, host)
        end = self.total_bytes if part.end is None else part.end
        yield from self._pieces(response, first - part.first, None if end is None else end - first)
        self._over = part.end is None

    def _pieces(self, response: requests.Response, unwanted: int, left: int | None) -> Generator[bytes, None, None]:
        """``left`` bytes of the body after ``unwanted`` ones, or all if the size isn't known."""
        host = net.host_of(response.url)
        for piece in flowing(response, self._doing):
            new, unwanted = piece[unwanted:], max(0, unwanted - len(piece))
            if left is not None and len(new) > left:
                raise IntegrityError(f"is longer than {host} has announced")
            left = None if left is None else left - len(new)
            if new:
                yield new
        if left:
            raise NetworkError(f"{self._doing}: {host} stopped {left:,} bytes before the end that it has announced")

    def _expect(self, total_bytes: int | None, host: str) -> None:
        if None not in (total_bytes, self.total_bytes) and total_bytes != self.total_bytes:
            raise IntegrityError(f"has {total_bytes:,} bytes at {host}, it must have {self.total_bytes:,}")
        self.total_bytes = self.total_bytes if total_bytes is None else total_bytes
