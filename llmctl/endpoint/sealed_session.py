"""Requests that nobody reads on the way: each sealed for the server's key, its answer opened as it comes.

A ``net.AskingSession`` and its ``net.Response``. What comes unsealed is never taken for an answer; a refusal on the way
(503, say, by a proxy) is one, though.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from llmctl import net
from llmctl.endpoint import seal_pins
from llmctl.errors import SealError
from llmctl.printable import printable
from llmctl.sealed.binary_http import MessageDecoder, RequestHead, ResponseHead, request
from llmctl.sealed.chunks import ChunkSplitter
from llmctl.sealed.encapsulation import NONCE_BYTES, AnswerCipher, RequestSealer
from llmctl.sealed.message_error import SealedMessageError
from llmctl.sealed.names import ANSWERS, DATE_PROBLEM, KEY_PROBLEM, NEXT_KEY, PATH, REQUESTS
from llmctl.types.endpoint import Seal

if TYPE_CHECKING:
    from llmctl.net.connection import HttpSession

READ_BYTES = 64 << 10
PAGE_BYTES = 16 << 10
PAGE_S = 2.0
DOING = "asking the server"
LATER = (408, 425, 429)  # beside 5xx: also one on the way may say so, and it is asked again
OUTSIDE = ("connection", "accept-encoding", "user-agent")  # fields of the way, not of what is asked
NEW_KEY = "llmctl endpoint add … --force --seal-key llmctl-key:…   with the line that `llmctl serve --sealed` shows"
TEST = "llmctl endpoint test NAME   says whether a proxy is in the way"
CLOCK = "timedatectl set-ntp true   lets the system keep its clock"


class SealedSession:
    """``session`` is the way to the server; ``headers`` are sealed with every request."""

    def __init__(self, session: HttpSession, seal: Seal) -> None:
        self._session, self._seal = session, seal
        self.exchange = session.exchange
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, url: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> net.Response:
        """The answer with its body unread. Raises what ``HttpSession.ask`` raises, SealError and NetworkError."""
        where = urlsplit(url)
        sealer = self._sealer(where.netloc)
        response = self._session.ask(
            "POST",
            urlunsplit((where.scheme, where.netloc, PATH, "", "")),
            data=sealer.whole(self._message(method, where, data, headers or {})),
            headers={"Content-Type": REQUESTS, "Accept": ANSWERS, "Incremental": "?1", "Connection": "close"},
        )
        if response.status_code in LATER or response.status_code >= 500:
            return response
        _require_sealed(response, where.netloc)
        return self._opened(response, sealer, url)

    def _sealer(self, host: str) -> RequestSealer:
        try:
            return RequestSealer(seal_pins.current(self._seal))
        except SealedMessageError as error:
            raise SealError(f"nothing can be sealed for {host}: {error}", hint=NEW_KEY) from error

    def _message(self, method: str, where: SplitResult, data: bytes, headers: Mapping[str, str]) -> bytes:
        path = urlunsplit(("", "", where.path or "/", where.query, ""))
        given = {name.lower(): value for name, value in {**self.headers, **headers}.items()}
        fields = {name: value for name, value in given.items() if name not in OUTSIDE}
        fields["date"] = formatdate(usegmt=True)
        head = RequestHead(method, where.scheme, where.netloc, path, tuple(fields.items()))
        return request(head, data, multiple_bytes=self._seal.pad_bytes)

    def _opened(self, response: net.Response, sealer: RequestSealer, url: str) -> SealedResponse:
        body = SealedBody(response, sealer, net.host_of(url))
        head = body.head(self.exchange.timing.answer_s)
        opened = SealedResponse(url, response, body, head)
        if (line := opened.headers.get(NEXT_KEY.title())) is not None:
            seal_pins.learn(self._seal, line)
        if head.status == 400 and "problem+json" in opened.headers.get("Content-Type", ""):
            _require_same_time(opened)
        return opened

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SealedBody:
    """Reads as urllib3's response is read. What was altered, moved, or cut off is an error; what came before that is as
    it was sealed."""

    def __init__(self, response: net.Response, sealer: RequestSealer, host: str) -> None:
        self._response, self._sealer, self._host = response, sealer, host
        self.connection = getattr(response.raw, "connection", None)
        self._cipher: AnswerCipher | None = None
        self._start = b""
        self._splitter, self._decoder = ChunkSplitter(), MessageDecoder()
        self._content = bytearray()
        self._content_bytes = 0
        self._has_ended = False
        self._error: SealError | None = None  # raised when what came before it was read

    def head(self, within_s: float) -> ResponseHead:
        """Raises NetworkError."""
        reader, end_s = net.Reader(self._response, DOING), time.monotonic() + within_s
        while self._decoder.head is None and self._error is None and not self._has_ended:
            self._take(reader.read(READ_BYTES, end_s - time.monotonic()))
        if not isinstance(self._decoder.head, ResponseHead):
            raise self._error or self._broken("what was sealed is no answer")
        return self._decoder.head

    def read1(self, most_bytes: int, *, decode_content: bool = False) -> bytes:
        """Raises what reading raises, and SealError."""
        while not self._content and not self._has_ended:
            if self._error is not None:
                raise self._error
            self._take(self._response.raw.read1(READ_BYTES, decode_content=False))
        piece = bytes(self._content[:most_bytes])
        del self._content[:most_bytes]
        return piece

    def _take(self, data: bytes) -> None:
        """``data`` has come; none of it at the end."""
        try:
            self._open(data)
            why: SealedMessageError | None = None
        except SealedMessageError as error:
            why = error
        content = self._decoder.taken()
        self._content += content
        self._content_bytes += len(content)
        if why is not None:
            self._error = self._broken(str(why))
            self._error.__cause__ = why

    def _open(self, data: bytes) -> None:
        if self._cipher is None:
            self._start += data
            if data and len(self._start) < NONCE_BYTES:
                return
            self._cipher, rest = self._sealer.answer(self._start[:NONCE_BYTES]), self._start[NONCE_BYTES:]
        else:
            rest = data
        for chunk in self._splitter.feed(rest):
            self._decoder.feed(self._cipher.open(chunk))
        if not data:
            self._decoder.feed(self._cipher.open(self._splitter.end(), is_final=True))
            self._decoder.end()
            self._has_ended = True

    def _broken(self, why: str) -> SealError:
        count = self._content_bytes
        before = f"; the {count:,} bytes before it are as they were sealed" if count else ""
        return SealError(f"the sealed answer of {self._host} is broken ({why}){before}", hint=TEST)


class SealedResponse:
    """The answer to one request, a ``net.Response``."""

    def __init__(self, url: str, response: net.Response, raw: SealedBody, head: ResponseHead) -> None:
        self.url, self.raw, self.status_code = url, raw, head.status
        self.exchange = net.exchange_of(response)
        self.headers = {name.title(): value for name, value in head.fields}
        self._response = response

    def close(self) -> None:
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_sealed(response: net.Response, host: str) -> None:
    """Raises SealError for an answer that isn't sealed, with what it says of why."""
    encoding = response.headers.get("Content-Encoding", "identity")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status_code == 200 and kind == ANSWERS and encoding == "identity":
        return
    with response:
        page = _json(net.first_bytes(response, limit_bytes=PAGE_BYTES, within_s=PAGE_S))
    status, title = response.status_code, printable(str(page.get("title", "")), 120)
    if page.get("type") == KEY_PROBLEM:
        raise SealError(f"{host} can't open what is sealed for its pinned key ({status}: {title})", hint=NEW_KEY)
    if status == 200:
        raise SealError(f"{host} answered in clear what was sealed; nothing of that is taken", hint=NEW_KEY)
    says = f": {title}" if title else ""
    raise SealError(f"{host} does not take sealed requests ({status}{says})", hint="llmctl serve --sealed   there")


def _require_same_time(response: SealedResponse) -> None:
    """Raises SealError: the request was refused as a whole, for its date most likely."""
    page, host = _json(net.first_bytes(response, limit_bytes=PAGE_BYTES, within_s=PAGE_S)), net.host_of(response.url)
    if page.get("type") != DATE_PROBLEM:
        raise SealError(f"{host} refused what was sealed: {printable(str(page.get('title')), 120)}")
    try:
        there_s = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError) as error:
        raise SealError(f"{host} refused the date of a request, and told none", hint=CLOCK) from error
    off_s = time.time() - there_s
    how = "ahead of" if off_s > 0 else "behind"
    raise SealError(f"this machine's clock is {abs(off_s):,.0f} s {how} that of {host}; 60 s are taken", hint=CLOCK)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        page = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return page if isinstance(page, dict) else {}
