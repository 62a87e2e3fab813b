"""One connection of a transfer, in a thread: asks for one part of the file after another, and checks every answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmctl import net
from llmctl.errors import IntegrityError, NetworkError
from llmctl.transfer.partial_file import Chunk
from llmctl.transfer.range_request import FileAddress, flowing, part_of
from llmctl.transfer.segments import Segment

if TYPE_CHECKING:
    import requests

    from llmctl.transfer.transfer import Transfer


@dataclass(frozen=True)
class RemoteFile:
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
    """The remote file changed: the partial download must be discarded."""


class AloneError(NetworkError):
    """The server refuses a part of the file to this connection, while others receive theirs."""


class Connection(threading.Thread):
    """Fetches ``segment``, then the segments that the transfer gives it. Ends at the first failure, its ``error``."""

    def __init__(self, transfer: Transfer, segment: Segment) -> None:
        super().__init__(name="connection", daemon=True)
        self.error: BaseException | None = None
        self.begun_s = time.monotonic()
        self.received_bytes = 0
        self._transfer = transfer
        self._segment: Segment | None = segment
        self._over = threading.Event()
        self._response: requests.Response | None = None
        self._sessions: net.Sessions | None = None
        self._location = FileAddress(transfer.remote.url, transfer.remote.secret)

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def drop(self) -> None:
        """Ends the connection from another thread: its segment is free for others, it writes nothing more, and a
        waiting read ends."""
        self._over.set()
        segment, response, sessions = self._segment, self._response, self._sessions
        if segment is not None:
            self._transfer.segments.give_back(segment)
        if sessions is not None:
            sessions.shut()
        if response is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
                response.raw.shutdown()

    def run(self) -> None:
        segments = self._transfer.segments
        try:
            with net.Sessions() as sessions:
                self._sessions = sessions
                while self._segment is not None and not self.over:
                    while self._segment.at < self._segment.end and not self.over:
                        self._ask(self._segment, sessions)
                    segments.give_back(self._segment)
                    self._segment = self._transfer.next_segment()
        except BaseException as error:  # noqa: BLE001  for the thread that looks after this one
            self.error = None if self.over else error
        finally:
            if self._segment is not None:
                segments.give_back(self._segment)
            self._over.set()
            self._transfer.connection_ended()

    def _ask(self, segment: Segment, sessions: net.Sessions) -> None:
        """Requests what is left of the segment, and returns at the body's end, or when the rest isn't needed."""
        transfer = self._transfer
        to_the_end = segment.end >= transfer.segments.end
        whole = segment.at == 0 and to_the_end
        headers = {}
        if not whole:
            headers["Range"] = f"bytes={segment.at}-{'' if to_the_end else segment.end - 1}"
            if transfer.partial.validator is not None:
                headers["If-Range"] = transfer.partial.validator
        for response in self._location.get(transfer.remote.doing, headers, sessions):
            self._response = response  # before the look whether it is over: from here on ``drop`` reaches it
            try:
                if self.over:
                    return
                self._receive(response, self._accept(response, segment, whole=whole))
            finally:
                self._response = None

    def _accept(self, response: requests.Response, segment: Segment, *, whole: bool) -> int | None:
        """Checks that the body begins with the segment's next byte, or starts the file over.

        Returns the body's end, None if it is the whole file. Raises NetworkError, IntegrityError, and what ``refused``
        makes of the status.
        """
        transfer, host, status = self._transfer, net.host_of(response.url), response.status_code
        doing, etag = transfer.remote.doing, response.headers.get("ETag")
        refusal = ChangedError if transfer.segments.alone(segment) else AloneError
        if status == 416 and not whole:
            raise refusal(f"{doing}: {host} has no bytes from {segment.at:,} on")
        if status >= 400:
            raise transfer.refused(response)
        part = part_of(response, doing)
        changed = transfer.partial.is_from_another(etag)
        self._expect(part.total_bytes, host)
        if status == 200:
            if not whole and refusal is ChangedError:
                self._segment = transfer.start_over(self)
            elif not whole:
                raise (ChangedError if changed else AloneError)(f"{doing}: {host} sends the whole file only")
            if response.headers.get("Accept-Ranges", "").strip().lower() == "none":
                transfer.use_one_connection()
        else:
            part.check_first(segment.at, response, doing, refusal)
            if changed:
                raise ChangedError(f"{doing}: the file at {host} has changed")
            transfer.partial.joined = True
        transfer.partial.note_validator(etag)
        return part.end

    def _expect(self, total_bytes: int | None, host: str) -> None:
        """Raises IntegrityError if an answer states another size than is known; records one that wasn't known."""
        known_bytes = self._transfer.segments.total_bytes
        if total_bytes is None:
            return
        if known_bytes is None:
            self._transfer.set_total_bytes(total_bytes)
        elif total_bytes != known_bytes:
            raise IntegrityError(
                f"{self._transfer.remote.name}: {host} offers {total_bytes:,} bytes, it must be {known_bytes:,}"
            )

    def _receive(self, response: requests.Response, promised_end: int | None) -> None:
        """Writes what of the body belongs to the segment. Raises NetworkError, IntegrityError, ResourceError."""
        transfer, segment, host = self._transfer, self._segment, net.host_of(response.url)
        doing = transfer.remote.doing
        assert segment is not None
        at_once_bytes = transfer.limit.at_once_bytes(net.PIECE_BYTES)
        slowest = transfer.limit.share_bytes_per_s
        for piece in flowing(response, doing, slowest_bytes_per_s=slowest, at_once_bytes=at_once_bytes):
            if self.over:
                return
            needed = self._write(piece, segment, host, promised_end)
            transfer.written(len(piece))
            transfer.limit.wait(len(piece), self._over)
            if not needed:
                return
        if transfer.segments.total_bytes is None:
            transfer.set_total_bytes(segment.at)  # the server closed in good order: this is all there is
        elif segment.at < segment.end and segment.at != promised_end:
            raise NetworkError(f"{doing}: {host} stopped at {segment.at:,} of {transfer.segments.total_bytes:,} bytes")

    def _write(self, piece: Chunk, segment: Segment, host: str, promised_end: int | None) -> bool:
        """Writes one piece. False if the rest of the answer isn't needed: another connection fetches it, or has."""
        transfer = self._transfer
        while True:
            written_bytes = transfer.segments.write(segment, piece)
            self.received_bytes += written_bytes
            piece = memoryview(piece)[written_bytes:]
            if segment.at == transfer.segments.total_bytes:
                if piece and promised_end is None:
                    transfer.start_over(self)
                    raise IntegrityError(
                        f"{transfer.remote.name}: {host} sends more than the {segment.at:,} bytes it has"
                    )
                return True  # to see the body end
            if segment.at == segment.end != promised_end and not transfer.extend(segment):
                return False
            if not piece:
                return True
            if not written_bytes:
                return False
