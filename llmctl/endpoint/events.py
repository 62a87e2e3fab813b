"""Server-sent events, as the HTML standard has them, from bytes that come in anyhow."""

from __future__ import annotations

import re

from msgspec import Struct

LINE_END = re.compile(rb"\r\n|\r|\n")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerEvent(Struct, frozen=True):
    """``kind`` is the event's type, "message" unless the server names one; ``data`` its lines, joined by line feeds."""

    kind: str
    data: str


class TooLongError(ValueError):
    """An event is longer than the parser takes."""


class EventParser:
    """Takes bytes as they come, gives the events that are complete by now.

    A line may end in CR, LF or both; comments, ids and retry times are passed over, and so is an event without data.
    Where the standard drops what stands after the last blank line, ``end`` gives it: some servers leave that line out.
    Raises TooLongError for an event of more than ``limit_bytes``.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._kind = ""
        self._after_cr = False
        self._is_first = True

    def feed(self, received: bytes) -> list[ServerEvent]:
        if self._after_cr and received.startswith(b"\n"):  # the other half of a line end
            self._after_cr, received = False, received[1:]
        if received:
            self._after_cr = received.endswith(b"\r")
        first, *others = LINE_END.split(received)
        self._line += first
        events = []
        for following in others:
            events.append(self._take(bytes(self._line)))
            self._line = bytearray(following)
        if len(self._line) > self._limit_bytes:
            raise TooLongError
        return [event for event in events if event is not None]

    def end(self) -> list[ServerEvent]:
        """What stands after the last blank line when the stream has ended."""
        events = [self._take(bytes(self._line)) if self._line else None, self._dispatch()]
        self._line.clear()
        return [event for event in events if event is not None]

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._is_first:
            self._is_first, line = False, line.removeprefix(BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._limit_bytes:
                raise TooLongError
        elif name == b"error":  # llama-server's, until 2025
            self._data, self._data_bytes, self._kind = [value], len(value), "error"
        elif name == b"event":
            self._kind = value[:100].decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, kind = b"\n".join(self._data).decode("utf-8", "replace"), self._kind
        self._data, self._data_bytes, self._kind = [], 0, ""
        return ServerEvent(kind or "message", data) if data.strip() else None
