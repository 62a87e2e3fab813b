"""One file over HTTP, with one connection: resumed, hashed while it is written, checked before it gets its name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import net, units
from llmctl.errors import IntegrityError, LlmctlError, NetworkError
from llmctl.store import disk
from llmctl.store.partial import Partial
from llmctl.store.patience import Patience, Refusal
from llmctl.store.progress import Progress

if TYPE_CHECKING:
    import requests

REFILL_BYTES = 1 << 20  # this much more than at the last failure is progress
SLOW_WINDOW_S = 30.0
SLOWEST_BYTES_PER_S = 1000  # slower than this over a whole window is a connection that has died
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)")


@dataclass(frozen=True)
class Wanted:
    """A file as its source announced it.

    ``url`` is asked anew for every try, since what it redirects to may expire; ``secret`` headers go to its origin
    only. ``bytes`` is None if the source doesn't say. ``name`` is for messages.
    """

    name: str
    url: str
    sha256: str
    bytes: int | None
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)


def download(
    wanted: Wanted, target: Path, *, refused: Callable[[requests.Response], LlmctlError], progress: Progress
) -> None:
    """Puts the file at ``target``. The caller holds its lock; ``refused`` puts an answer of 400 and above into words.

    What an earlier try has left is gone on with. Raises ResourceError (no room, with the partial file kept),
    NetworkError (the partial file kept), IntegrityError (what was received is removed) and what ``refused`` makes.
    """
    with disk.writing(target.parent, wanted.name), Partial(target) as partial:
        if wanted.bytes is not None and partial.done_bytes > wanted.bytes:
            partial.restart()
        transfer = _Transfer(wanted, partial, refused, progress)
        try:
            transfer.run()
            if partial.sha256 != wanted.sha256 and partial.joined:
                partial.restart()  # perhaps what was there before was never of this file: the whole of it, once
                transfer.run()
        except NetworkError as error:
            if partial.done_bytes and error.hint is None:
                error.hint = f"run the same command again: it goes on after {units.size(partial.done_bytes)}"
            raise
        if partial.sha256 != wanted.sha256:
            partial.discard()
            raise IntegrityError(
                f"{wanted.name} arrived with sha256 {partial.sha256[:16]}…, it must have {wanted.sha256[:16]}…",
                hint="run the same command again; if it happens again, the source has another file than it says",
            )
        try:
            partial.check_header(wanted.name)
        except IntegrityError:
            partial.discard()
            raise
        partial.publish()


class _Transfer:
    def __init__(
        self, wanted: Wanted, partial: Partial, refused: Callable[[requests.Response], LlmctlError], progress: Progress
    ) -> None:
        self.wanted = wanted
        self.partial = partial
        self.refused = refused
        self.progress = progress
        self.total_bytes = wanted.bytes
        self.doing = f"fetching {wanted.name}"

    def run(self) -> None:
        """Tries until every byte is there or patience ends."""
        needed_bytes = (self.total_bytes or 0) - self.partial.done_bytes
        disk.require_room(self.partial.path.parent, needed_bytes, self.wanted.name)
        patience = Patience()
        self.progress(self.partial.done_bytes, self.total_bytes)
        while self.total_bytes is None or self.partial.done_bytes < self.total_bytes:
            begun_bytes = self.partial.done_bytes
            try:
                self._try()
            except NetworkError as error:
                if self.partial.done_bytes - begun_bytes >= REFILL_BYTES:
                    patience.refill()
                patience.wait(error)

    def _try(self) -> None:
        """One request for the rest of the file. Ends when its body does."""
        done_bytes, validator = self.partial.done_bytes, self.partial.validator
        headers = {}
        if done_bytes:
            headers["Range"] = f"bytes={done_bytes}-"
            if validator is not None:
                headers["If-Range"] = validator
        for response in net.hops("GET", self.wanted.url, doing=self.doing, headers=headers, secret=self.wanted.secret):
            if response.is_redirect:
                continue
            self._accept(response)
            self._receive(response)

    def _accept(self, response: requests.Response) -> None:
        """Makes sure that the body is what comes next, or starts over. Raises what the answer deserves."""
        host = net.host_of(response.url)
        if response.status_code == 416 and self.partial.done_bytes:
            self.partial.restart()
            raise NetworkError(f"{self.doing}: {host} doesn't know the part that is missing")
        if response.status_code >= 400:
            raise self.refused(response)
        if response.status_code not in (200, 206):
            raise Refusal(f"{self.doing}: {host} answers {response.status_code}, which means nothing here")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise Refusal(
                f"{self.doing}: {host} sends it {encoding}-encoded, so that sizes and ranges mean nothing",
                hint="if a proxy is between, tell it to leave this host alone (NO_PROXY)",
            )
        if response.status_code == 200:
            self._expect(net.whole_number(response.headers.get("Content-Length")), host)
            if self.partial.done_bytes:
                self.partial.restart()
        else:
            first_byte, total_bytes = _content_range(response.headers.get("Content-Range", ""))
            self._expect(total_bytes, host)
            if first_byte != self.partial.done_bytes:
                asked = self.partial.done_bytes
                self.partial.restart()
                raise NetworkError(f"{self.doing}: {host} sends bytes from {first_byte}, asked for those from {asked}")
            self.partial.joined = self.partial.done_bytes > 0
        self.partial.note_validator(response.headers.get("ETag"))

    def _expect(self, total_bytes: int | None, host: str) -> None:
        """Holds the size that an answer promises against the known one. What is here already is left alone."""
        if total_bytes is None:
            return
        if self.total_bytes is None:
            self.total_bytes = total_bytes
            disk.require_room(self.partial.path.parent, total_bytes - self.partial.done_bytes, self.wanted.name)
        elif total_bytes != self.total_bytes:
            raise IntegrityError(
                f"{self.wanted.name}: {host} offers {total_bytes:,} bytes, it must be {self.total_bytes:,}"
            )

    def _receive(self, response: requests.Response) -> None:
        host = net.host_of(response.url)
        window_from_s, window_bytes = time.monotonic(), 0
        for piece in net.pieces(response, self.doing):
            if self.total_bytes is not None and self.partial.done_bytes + len(piece) > self.total_bytes:
                self.partial.restart()
                raise IntegrityError(
                    f"{self.wanted.name}: {host} sends more than the {self.total_bytes:,} bytes it has"
                )
            self.partial.write(piece)
            self.progress(self.partial.done_bytes, self.total_bytes)
            window_bytes += len(piece)
            window_s = time.monotonic() - window_from_s
            if window_s >= SLOW_WINDOW_S:
                if window_bytes < SLOWEST_BYTES_PER_S * window_s:
                    raise NetworkError(f"{self.doing}: {host} sent only {window_bytes:,} bytes in {window_s:.0f} s")
                window_from_s, window_bytes = time.monotonic(), 0
        if self.total_bytes is None:
            self.total_bytes = self.partial.done_bytes  # the server closed in good order: this is all there is
        elif self.partial.done_bytes < self.total_bytes:
            raise NetworkError(
                f"{self.doing}: {host} stopped at {self.partial.done_bytes:,} of {self.total_bytes:,} bytes"
            )


def _content_range(value: str) -> tuple[int | None, int | None]:
    """First byte and total of a Content-Range; None for what it doesn't say."""
    match = CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])
