"""The JSON documents of a server's answer, as its bytes come: of a stream of events, or of one that isn't streamed.

What a server sends is not trusted: events, the whole answer and waits are limited.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from llmctl import net
from llmctl.endpoint.events import EventParser, ServerEvent, TooLongError
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import NetworkError, SealError

READ_BYTES = 64 << 10
EVENT_LIMIT_BYTES = 4 << 20
WHOLE_LIMIT_BYTES = 16 << 20
SILENT_LIMIT_BYTES = 32 << 20  # without a word in them
END = object()
DOING = "reading the answer"
PATIENCE = "llmctl endpoint add … --force --silent-s 600   waits longer"
NO_ANSWER = "no answer that can be read: is this an OpenAI-compatible address?"
BLANK = b"\xef\xbb\xbf \t\r\n"
ALIVE = ("ping", "heartbeat", "keepalive", "keep-alive", "keep_alive")  # events that say nothing else


@dataclass
class Clock:
    """Until when the next word must have come, how much may come before it, and for how long nothing at all."""

    end_s: float
    silent_s: float
    received_bytes: int = 0

    @property
    def left_s(self) -> float:
        return self.end_s - time.monotonic()

    def restart(self, seconds: float) -> None:
        self.end_s, self.silent_s, self.received_bytes = time.monotonic() + seconds, seconds, 0


def broken(error: NetworkError, host: str, timing: ChatTiming, clock: Clock, *, has_begun: bool) -> NetworkError:
    """``error`` in the words of the limit that was over."""
    if not isinstance(error, net.SilentError):
        return error
    if has_begun:
        return NetworkError(f"{host} stopped in the middle of the answer: no word for {timing.between_s:g} s")
    if clock.left_s > 0:
        return NetworkError(f"{host} did not answer in time: not a byte in {timing.silent_s:g} s", hint=PATIENCE)
    return NetworkError(f"{host} did not answer in time: no word of an answer in {timing.first_token_s:g} s")


def received(response: net.Response, clock: Clock) -> Iterator[bytes]:
    """The body of an answer as it comes, decoded. Raises NetworkError."""
    host = net.host_of(response.url)
    return _counted(net.decoded(response, _read(response, host, clock), DOING), host, clock)


def documents(body: Iterator[bytes], host: str) -> Iterator[dict[str, Any] | None]:
    """The JSON objects of a stream of events, None for its end mark; or those of a body that is nothing but JSON, as
    servers answer that don't stream. Raises NetworkError."""
    start = b""
    for piece in body:
        start += piece
        if start.lstrip(BLANK) or len(start) > READ_BYTES:
            break
    is_json = start.lstrip(BLANK).startswith((b"{", b"["))  # no event begins like that
    yield from (_whole if is_json else _streamed)(chain((start,), body), host)


def _read(response: net.Response, host: str, clock: Clock) -> Iterator[bytes]:
    reader = net.Reader(response, DOING)
    while True:
        try:
            piece = reader.read(READ_BYTES, min(clock.left_s, clock.silent_s))
        except (net.SilentError, SealError):
            raise
        except NetworkError as error:
            raise NetworkError(f"{host} broke off in the middle of the answer") from error
        if not piece:
            return
        yield piece


def _counted(body: Iterator[bytes], host: str, clock: Clock) -> Iterator[bytes]:
    for piece in body:
        clock.received_bytes += len(piece)
        if clock.received_bytes > SILENT_LIMIT_BYTES:
            raise NetworkError(f"{host} sent {clock.received_bytes:,} bytes without a word of an answer in them")
        if clock.left_s <= 0:
            raise net.SilentError(f"{host} sent nothing but noise")
        yield piece


def _streamed(body: Iterable[bytes], host: str) -> Iterator[dict[str, Any] | None]:
    parser = EventParser(EVENT_LIMIT_BYTES)
    try:
        for piece in body:
            for event in parser.feed(piece):
                yield from _values(event, host)
        for event in parser.end():
            yield from _values(event, host)
    except TooLongError as error:
        raise NetworkError(f"{host} sent an event of more than {EVENT_LIMIT_BYTES:,} bytes") from error


def _values(event: ServerEvent, host: str) -> Iterator[dict[str, Any] | None]:
    """What an event holds; what each of its lines holds, where a server leaves out the blank lines between events."""
    if event.kind in ALIVE or event.data.strip() in ALIVE:
        return
    try:
        values = [_value(event.data)]
    except ValueError:
        try:
            values = [_value(line) for line in event.data.splitlines() if line.strip()]
        except ValueError as error:
            if event.kind != "error":
                raise NetworkError(f"{host} sent something that is not JSON") from error
            values = [{"error": event.data}]
    for value in chain.from_iterable(value if isinstance(value, list) else [value] for value in values):
        if isinstance(value, dict):
            yield value if event.kind != "error" or value.get("error") else {"error": value}
        elif value is END:
            yield None


def _value(data: str) -> Any:
    """Decoded JSON, or END. Raises ValueError."""
    if data.strip() == "[DONE]":
        return END
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _whole(body: Iterable[bytes], host: str) -> Iterator[dict[str, Any] | None]:
    raw = bytearray()
    for piece in body:
        raw += piece
        if len(raw) > WHOLE_LIMIT_BYTES:
            raise NetworkError(f"{host} sent an answer of more than {WHOLE_LIMIT_BYTES:,} bytes")
    text = raw.decode("utf-8-sig", "replace")
    has_choices = False
    for document in _values(ServerEvent("message", text), host):
        has_choices = has_choices or (document is not None and "choices" in document)
        yield document
    if not has_choices:
        raise NetworkError(f"{host} sent {NO_ANSWER}")
    yield None
