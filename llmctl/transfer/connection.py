"""One connection of a transfer: asks for one part of the file after another, and lets nothing pass unchecked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llmctl import net
from llmctl.errors import IntegrityError, LlmctlError, NetworkError
from llmctl.printable import printable
from llmctl.transfer.partial_file import Partial, Piece
from llmctl.transfer.rate_limit import Limit
from llmctl.transfer.retry import Refusal
from llmctl.transfer.segments import Segment, Segments

if TYPE_CHECKING:
    import requests

SLOW_WINDOW_S = 30.0
SLOWEST_BYTES_PER_S = 1000  # slower than this over a whole window is a connection that has died
EXPIRED = (400, 401, 403, 404, 410)  # what file hosts say of a signed address that was good before


@dataclass(frozen=True)
class Wanted:
    """A file as its source announced it.

    ``url`` is asked anew whenever something fails, since what it redirects to may expire; ``secret`` headers go to its
    origin only. ``bytes`` is None if the source doesn't say. ``name`` is for messages.
    """

    name: str
    url: str
    sha256: str
    bytes: int | None
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def doing(self) -> str:
        return f"fetching {self.name}"


class ChangedError(NetworkError):
    """What is there already is of no use with what the server sends now."""


class AloneError(NetworkError):
    """The server doesn't give a part of the file to this connection, while others get theirs."""


class Pool(Protocol):
    """What a connection needs to know of the transfer that it is a part of. Called from its thread."""

    wanted: Wanted
    partial: Partial
    segments: Segments
    limit: Limit
    refused: Callable[[requests.Response], LlmctlError]

    def next_segment(self) -> Segment | None:
        """What to fetch after a segment that is finished; None for a connection that isn't needed any more."""

    def extend(self, segment: Segment) -> bool:
        """Adds to a segment at its end, for an answer that goes on there. False if it should not."""

    def state_size(self, total_bytes: int) -> None:
        """An answer tells the size that nobody knew. Raises ResourceError."""

    def written(self, count: int) -> None:
        """So many bytes were written. Raises ResourceError and IntegrityError for more than there may be."""

    def stay_alone(self) -> None:
        """The server says that it gives no parts."""

    def start_over(self, connection: Connection) -> Segment:
        """Forgets every byte and gives the whole to ``connection``, the only one from now on."""

    def wake(self) -> None:
        """A connection has ended."""


class Connection(threading.Thread):
    """Fetches ``segment``, then what the pool gives it, and ends at the first failure, which is its ``error``."""

    def __init__(self, pool: Pool, segment: Segment) -> None:
        super().__init__(name="connection", daemon=True)
        self.error: BaseException | None = None
        self.begun_s = time.monotonic()
        self.received_bytes = 0
        self._pool = pool
        self._segment: Segment | None = segment
        self._over = threading.Event()
        self._response: requests.Response | None = None
        self._sessions: net.Sessions | None = None
        self._straight: str | None = None  # where the source has sent us, as long as that is good

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def drop(self) -> None:
        """Called by another thread: its part is free for others, it writes nothing more, and a read that waits is
        broken off."""
        self._over.set()
        segment, response, sessions = self._segment, self._response, self._sessions
        if segment is not None:
            self._pool.segments.give_back(segment)
        if sessions is not None:
            sessions.shut()
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
                response.raw.shutdown()

    def run(self) -> None:
        segments = self._pool.segments
        try:
            with net.Sessions() as kept:
                self._sessions = kept
                while self._segment is not None and not self.over:
                    while self._segment.at < self._segment.end and not self.over:
                        self._ask(self._segment, kept)
                    segments.give_back(self._segment)
                    self._segment = self._pool.next_segment()
        except BaseException as error:  # noqa: BLE001  for the thread that looks after this one
            self.error = None if self.over else error
        finally:
            if self._segment is not None:
                segments.give_back(self._segment)
            self._over.set()
            self._pool.wake()

    def _ask(self, segment: Segment, kept: net.Sessions) -> None:
        """One request for what is left of the segment. Ends when the body does, or nobody needs the rest of it."""
        pool = self._pool
        to_the_end = segment.end >= pool.segments.end
        whole = segment.at == 0 and to_the_end
        headers = {}
        if not whole:
            headers["Range"] = f"bytes={segment.at}-{'' if to_the_end else segment.end - 1}"
            if pool.partial.validator is not None:
                headers["If-Range"] = pool.partial.validator
        url, secret = (self._straight, {}) if self._straight else (pool.wanted.url, pool.wanted.secret)
        for response in net.hops("GET", url, doing=pool.wanted.doing, headers=headers, secret=secret, kept=kept):
            if response.is_redirect:
                continue
            if response.status_code in EXPIRED and self._straight is not None:
                self._straight = None  # the source makes a new one
                return
            self._response = response  # before the look whether it is over: from here on ``drop`` reaches it
            try:
                if self.over:
                    return
                promised_end = self._accept(response, segment, whole=whole)
                if response.url != pool.wanted.url:
                    self._straight = response.url
                self._receive(response, promised_end)
            finally:
                self._response = None

    def _accept(self, response: requests.Response, segment: Segment, *, whole: bool) -> int | None:
        """Makes sure that the body is what comes next, or starts over. Returns where it ends if it is only a part of
        the file. Raises what the answer deserves."""
        pool, host, status = self._pool, net.host_of(response.url), response.status_code
        doing, etag = pool.wanted.doing, response.headers.get("ETag")
        useless = ChangedError if pool.segments.alone(segment) else AloneError
        if status == 416 and not whole:
            raise useless(f"{doing}: {host} doesn't know the part that is missing")
        if status >= 400:
            raise pool.refused(response)
        if status not in (200, 206):
            raise Refusal(f"{doing}: {host} answers {status}, which means nothing here")
        encoding = printable(response.headers.get("Content-Encoding", "identity"), 40)
        if encoding.lower() != "identity":
            raise Refusal(
                f"{doing}: {host} sends it {encoding}-encoded, so that sizes and ranges mean nothing",
                hint="if a proxy is between, tell it to leave this host alone (NO_PROXY)",
            )
        changed = pool.partial.is_from_another(etag)
        if status == 200:
            promised_end = None
            self._expect(net.whole_number(response.headers.get("Content-Length")), host)
            if not whole and useless is ChangedError:
                self._segment = pool.start_over(self)
            elif not whole:
                raise (ChangedError if changed else AloneError)(f"{doing}: {host} sends the whole file only")
            if response.headers.get("Accept-Ranges", "").strip().lower() == "none":
                pool.stay_alone()
        else:
            first_byte, promised_end, total_bytes = net.content_range(response.headers.get("Content-Range", ""))
            self._expect(total_bytes, host)
            if first_byte != segment.at or promised_end <= first_byte:
                raise useless(f"{doing}: {host} sends bytes from {first_byte}, asked for those from {segment.at}")
            if changed:
                raise ChangedError(f"{doing}: {host} has another file there now")
            pool.partial.joined = True
        pool.partial.note_validator(etag)
        return promised_end

    def _expect(self, total_bytes: int | None, host: str) -> None:
        """Holds the size that an answer promises against the known one. What is here already is left alone."""
        known_bytes = self._pool.segments.total_bytes
        if total_bytes is None:
            return
        if known_bytes is None:
            self._pool.state_size(total_bytes)
        elif total_bytes != known_bytes:
            raise IntegrityError(
                f"{self._pool.wanted.name}: {host} offers {total_bytes:,} bytes, it must be {known_bytes:,}"
            )

    def _receive(self, response: requests.Response, promised_end: int | None) -> None:
        """Writes the body, as far as it belongs to the segment."""
        pool, segment, host = self._pool, self._segment, net.host_of(response.url)
        doing = pool.wanted.doing
        assert segment is not None
        window_from_s, window_bytes = time.monotonic(), 0
        slowest_bytes_per_s = min(SLOWEST_BYTES_PER_S, pool.limit.share_bytes_per_s)
        at_once_bytes = pool.limit.at_once_bytes(net.PIECE_BYTES)
        for piece in net.pieces(response, doing, at_once_bytes=at_once_bytes):
            if self.over:
                return
            went_on = self._write(piece, segment, host, promised_end)
            pool.written(len(piece))
            pool.limit.wait(len(piece), self._over)
            if not went_on:
                return
            window_bytes += len(piece)
            window_s = time.monotonic() - window_from_s
            if window_s >= SLOW_WINDOW_S:
                if window_bytes < slowest_bytes_per_s * window_s:
                    raise NetworkError(f"{doing}: {host} sent only {window_bytes:,} bytes in {window_s:.0f} s")
                window_from_s, window_bytes = time.monotonic(), 0
        if pool.segments.total_bytes is None:
            pool.state_size(segment.at)  # the server closed in good order: this is all there is
        elif segment.at < segment.end and segment.at != promised_end:
            raise NetworkError(f"{doing}: {host} stopped at {segment.at:,} of {pool.segments.total_bytes:,} bytes")

    def _write(self, piece: Piece, segment: Segment, host: str, promised_end: int | None) -> bool:
        """False if what comes next in the same answer is of no use here: it is another's, or there already."""
        pool = self._pool
        while True:
            written_bytes = pool.segments.write(segment, piece)
            self.received_bytes += written_bytes
            piece = memoryview(piece)[written_bytes:]
            if segment.at == pool.segments.total_bytes:
                if piece and promised_end is None:
                    pool.start_over(self)
                    raise IntegrityError(f"{pool.wanted.name}: {host} sends more than the {segment.at:,} bytes it has")
                return True  # to see the body end
            if segment.at == segment.end != promised_end and not pool.extend(segment):
                return False
            if not piece:
                return True
            if not written_bytes:
                return False
