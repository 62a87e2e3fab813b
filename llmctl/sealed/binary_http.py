"""HTTP messages as bytes (RFC 9292): written whole or piece by piece, and read as they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from msgspec import Struct

from llmctl.sealed.integers import IncompleteError, decoded, encoded
from llmctl.sealed.message_error import SealedMessageError

Field = tuple[str, str]
REQUEST, RESPONSE, STREAMED_REQUEST, STREAMED_RESPONSE = range(4)  # framing indicators
LIMIT_BYTES = 64 << 10  # of control data or a field section
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
VALUE = re.compile(rb"(?![ \t])[^\x00\r\n]*(?<![ \t])")
END = b"\0\0"  # no more content, no trailers


class RequestHead(Struct, frozen=True):
    """``path`` has the query, too; names of ``fields`` are in lower case."""

    method: str
    scheme: str
    authority: str
    path: str
    fields: tuple[Field, ...] = ()


class ResponseHead(Struct, frozen=True):
    status: int
    fields: tuple[Field, ...] = ()


def request(head: RequestHead, content: bytes = b"", *, multiple_bytes: int = 1) -> bytes:
    """A request of known length, padded with zeros to a multiple of so many bytes."""
    control = b"".join(_text(part) for part in (head.method, head.scheme, head.authority, head.path))
    fields = b"".join(map(_line, head.fields))
    message = encoded(REQUEST) + control + encoded(len(fields)) + fields + encoded(len(content)) + content
    return message + bytes(-len(message) % multiple_bytes)


def response_head(head: ResponseHead) -> bytes:
    """The beginning of a response whose content comes in pieces, by ``content``, up to END."""
    return encoded(STREAMED_RESPONSE) + encoded(head.status) + b"".join(map(_line, head.fields)) + b"\0"


def content(piece: bytes) -> bytes:
    """A piece of a streamed message's content; ``piece`` is not empty, which would end it."""
    return encoded(len(piece)) + piece


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    return encoded(len(raw)) + raw


def _line(field: Field) -> bytes:
    name, value = field
    return _text(name.lower()) + _text(value)


class MessageDecoder:
    """Takes a message as it comes, of known length or not. ``head`` is there when it is complete; ``taken`` gives the
    content that has come since. Raises SealedMessageError for what is no message."""

    def __init__(self) -> None:
        self.head: RequestHead | ResponseHead | None = None
        self.trailers: tuple[Field, ...] = ()
        self._buffer = bytearray()
        self._content = bytearray()
        self._left: int | None = None  # of the content, or of a piece of it
        self._framing = REQUEST
        self._step: Callable[[], bool] = self._read_framing
        self._may_end = False  # here, what is missing counts as empty

    def feed(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._step():
                pass
        except IncompleteError:
            if self.head is None and len(self._buffer) > 4 * LIMIT_BYTES:
                raise SealedMessageError("the head of the message is too long") from None

    def end(self) -> None:
        """Nothing more comes. Raises SealedMessageError where the message isn't complete."""
        if self.head is None and self._step == self._read_fields and not self._buffer:
            self._take_fields(())
        if self._buffer or not self._may_end:
            raise SealedMessageError("the message ends in the middle")

    def taken(self) -> bytes:
        """The content that has come, once."""
        content = bytes(self._content)
        self._content.clear()
        return content

    @property
    def _is_streamed(self) -> bool:
        return self._framing in (STREAMED_REQUEST, STREAMED_RESPONSE)

    def _read_framing(self) -> bool:
        self._framing, end = decoded(self._buffer)
        if self._framing > STREAMED_RESPONSE:
            raise SealedMessageError(f"{self._framing} is no framing of a message")
        self._done(end, self._read_control)
        return True

    def _read_control(self) -> bool:
        if self._framing in (REQUEST, STREAMED_REQUEST):
            texts, at = [], 0
            for _ in range(4):
                text, at = _prefixed(self._buffer, at)
                texts.append(text)
            self._control: RequestHead | int = _request_head(texts)
        else:
            self._control, at = decoded(self._buffer)
            if not 100 <= self._control < 600:
                raise SealedMessageError(f"{self._control} is no status")
        self._done(at, self._read_fields)
        return True

    def _read_fields(self) -> bool:
        fields, end = self._section()
        self._done(end, self._read_content)
        self._take_fields(fields)
        return True

    def _take_fields(self, fields: tuple[Field, ...]) -> None:
        if isinstance(self._control, int):
            if self._control < 200:  # an informational response: another one follows
                self._step = self._read_control
                return
            self.head = ResponseHead(self._control, fields)
        else:
            head = self._control
            self.head = RequestHead(head.method, head.scheme, head.authority, head.path, fields)
        self._may_end = True

    def _read_content(self) -> bool:
        if self._left is None:
            self._left, end = decoded(self._buffer)
            del self._buffer[:end]
            self._may_end = False
            if not self._left:
                self._end_content()
                return True
        piece = self._buffer[: self._left]
        self._content += piece
        self._left -= len(piece)
        del self._buffer[: len(piece)]
        if self._left:
            raise IncompleteError
        if self._is_streamed:
            self._left = None
        else:
            self._end_content()
        return True

    def _end_content(self) -> None:
        self._step, self._may_end = self._read_trailers, True

    def _read_trailers(self) -> bool:
        self.trailers, end = self._section()
        self._done(end, self._read_padding)
        return True

    def _read_padding(self) -> bool:
        if any(self._buffer):
            raise SealedMessageError("what follows the message is not zero")
        self._buffer.clear()
        return False

    def _done(self, end: int, step: Callable[[], bool]) -> None:
        del self._buffer[:end]
        self._step = step

    def _section(self) -> tuple[tuple[Field, ...], int]:
        """A field section, and where it ends."""
        if not self._is_streamed:
            length, at = decoded(self._buffer)
            _require_short(length)
            if len(self._buffer) < at + length:
                raise IncompleteError
            return _lines(bytes(self._buffer[at : at + length])), at + length
        fields: list[Field] = []
        at = 0
        while True:
            length, after = decoded(self._buffer, at)
            if not length:
                return tuple(fields), after
            field, at = _field(self._buffer, at)
            _require_short(at)
            fields.append(field)


def _lines(section: bytes) -> tuple[Field, ...]:
    fields: list[Field] = []
    at = 0
    try:
        while at < len(section):
            field, at = _field(section, at)
            fields.append(field)
    except IncompleteError:
        raise SealedMessageError("a field is longer than its section") from None
    return tuple(fields)


def _field(data: bytes | bytearray, at: int) -> tuple[Field, int]:
    name, at = _prefixed(data, at)
    value, at = _prefixed(data, at)
    if not TOKEN.fullmatch(name):  # no pseudo-field is known that may be here
        raise SealedMessageError("a field's name is none")
    if not VALUE.fullmatch(value):
        raise SealedMessageError("a field's value is none")
    return (name.decode().lower(), value.decode("latin-1")), at


def _prefixed(data: bytes | bytearray, at: int) -> tuple[bytes, int]:
    length, at = decoded(data, at)
    _require_short(length)
    if len(data) < at + length:
        raise IncompleteError
    return bytes(data[at : at + length]), at + length


def _require_short(length: int) -> None:
    if length > LIMIT_BYTES:
        raise SealedMessageError(f"{length:,} bytes of a head, more than the {LIMIT_BYTES:,} that are taken")


def _request_head(texts: Iterable[bytes]) -> RequestHead:
    method, scheme, authority, path = texts
    if not METHOD.fullmatch(method):
        raise SealedMessageError("the method is none")
    if scheme not in (b"http", b"https") or not path.startswith(b"/"):
        raise SealedMessageError("the request is for no http or https address")
    if not (authority + path).isascii() or re.search(rb"[\x00-\x20\x7f]", authority + path):
        raise SealedMessageError("the request's address is none")
    return RequestHead(method.decode(), scheme.decode(), authority.decode(), path.decode())
