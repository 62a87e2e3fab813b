"""From what a server sends to the events of an answer.

What a server sends is not trusted: events, the whole answer and waits are limited, a field of the wrong type counts as
absent, and whatever it says in words is made fit to be shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from llmctl import net
from llmctl.endpoint.events import EventParser, ServerEvent, TooLongError
from llmctl.endpoint.parts import first, flat, part_of, text_of
from llmctl.endpoint.refusal import shown, words_of
from llmctl.endpoint.timing import ChatTiming
from llmctl.endpoint.tool_calls import MOST_CALLS, ToolCallCollector, TooManyCallsError
from llmctl.errors import EngineError, NetworkError, SealError
from llmctl.printable import printable
from llmctl.thoughts.marks import guessed_for, marks_for
from llmctl.thoughts.splitter import ThoughtSplitter
from llmctl.types.endpoint import Address
from llmctl.types.event import EngineNote, Event, Finished, Measured, Reasoning, Text, ThoughtsSoFar, Usage, Words

READ_BYTES = 64 << 10
EVENT_LIMIT_BYTES = 4 << 20
WHOLE_LIMIT_BYTES = 16 << 20
ANSWER_LIMIT = 4 << 20  # characters: a million tokens, more than any model writes
SILENT_LIMIT_BYTES = 32 << 20  # without a word in them
NUMBER_LIMIT = 1 << 53  # no count of tokens, bytes or milliseconds is larger
REASON_LIMIT = 40
END = object()
DOING = "reading the answer"
PATIENCE = "llmctl endpoint add … --force --silent-s 600   waits longer"
NO_ANSWER = "no answer that can be read: is this an OpenAI-compatible address?"
BLANK = b"\xef\xbb\xbf \t\r\n"
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
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


def answer_of(
    response: net.Response,
    address: Address,
    timing: ChatTiming,
    *,
    first_by_s: float,
    own_engine: bool = False,
) -> Iterator[Event]:
    """Events as they arrive, the last of them Finished: at the end mark, at the end of the body, or ``after_finish_s``
    after a finish reason. ``first_by_s`` is when, by the monotonic clock, the first word must have come;
    ``own_engine`` is our worker, which tells thoughts from the answer itself and sends notes.

    Raises NetworkError for an answer that breaks off or doesn't go on, EngineError for an error that the server tells.
    """
    host, clock = net.host_of(address.url), Clock(first_by_s, timing.silent_s)
    heard = Heard(address, own_engine)
    try:
        for event in _documents(response, host, clock):
            if event is None:
                heard.is_complete = True
                break
            before = heard.characters
            yield from heard.events(event)
            if heard.characters > before:
                clock.restart(timing.between_s)
            if heard.characters > ANSWER_LIMIT:
                raise EngineError(f"{host} sent more than {ANSWER_LIMIT:,} characters, more than any answer has")
            if heard.finish_reason is not None and not heard.is_ending:
                heard.is_ending = True
                clock.restart(timing.after_finish_s)
    except NetworkError as error:
        if heard.finish_reason is None:
            raise _broken(error, host, timing, clock, has_begun=heard.characters > 0) from error
    yield from heard.splitter.end(complete=heard.finish_reason == "stop")
    heard.require_end(response)
    yield from heard.tool_calls.calls
    yield heard.finished


def _broken(error: NetworkError, host: str, timing: ChatTiming, clock: Clock, *, has_begun: bool) -> NetworkError:
    if not isinstance(error, net.SilentError):
        return error
    if has_begun:
        return NetworkError(f"{host} stopped in the middle of the answer: no word for {timing.between_s:g} s")
    if clock.left_s > 0:
        return NetworkError(f"{host} did not answer in time: not a byte in {timing.silent_s:g} s", hint=PATIENCE)
    return NetworkError(f"{host} did not answer in time: no word of an answer in {timing.first_token_s:g} s")


def _documents(response: net.Response, host: str, clock: Clock) -> Iterator[dict[str, Any] | None]:
    """The JSON objects of a stream of events, None for its end mark; or those of a body that is nothing but JSON, as
    servers answer that don't stream. Raises NetworkError."""
    body = _counted(net.decoded(response, _received(response, host, clock), DOING), host, clock)
    start = b""
    for received in body:
        start += received
        if start.lstrip(BLANK) or len(start) > READ_BYTES:
            break
    is_json = start.lstrip(BLANK).startswith((b"{", b"["))  # no event begins like that
    yield from (_whole if is_json else _streamed)(chain((start,), body), host)


def _received(response: net.Response, host: str, clock: Clock) -> Iterator[bytes]:
    reader = net.Reader(response, DOING)
    while True:
        try:
            received = reader.read(READ_BYTES, min(clock.left_s, clock.silent_s))
        except (net.SilentError, SealError):
            raise
        except NetworkError as error:
            raise NetworkError(f"{host} broke off in the middle of the answer") from error
        if not received:
            return
        yield received


def _counted(body: Iterator[bytes], host: str, clock: Clock) -> Iterator[bytes]:
    for received in body:
        clock.received_bytes += len(received)
        if clock.received_bytes > SILENT_LIMIT_BYTES:
            raise NetworkError(f"{host} sent {clock.received_bytes:,} bytes without a word of an answer in them")
        if clock.left_s <= 0:
            raise net.SilentError(f"{host} sent nothing but noise")
        yield received


def _streamed(body: Iterable[bytes], host: str) -> Iterator[dict[str, Any] | None]:
    parser = EventParser(EVENT_LIMIT_BYTES)
    try:
        for received in body:
            for event in parser.feed(received):
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
    for received in body:
        raw += received
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


@dataclass
class Heard:
    """What a stream has said so far, beside the text."""

    address: Address
    own_engine: bool = False
    finish_reason: str | None = None
    is_complete: bool = False  # the end mark has come
    is_ending: bool = False  # a finish reason has
    has_events: bool = False
    has_deltas: bool = False
    has_refused: bool = False
    usage: Usage = field(default_factory=lambda: Usage(None, None))
    timings: dict[str, Any] = field(default_factory=dict)
    measured: Measured | None = None
    tool_calls: ToolCallCollector = field(default_factory=ToolCallCollector)
    splitter: ThoughtSplitter = field(init=False)
    text_characters: int = 0

    def __post_init__(self) -> None:
        name = self.address.model
        self.splitter = ThoughtSplitter(marks_for(name), guessed=guessed_for(name))
        if self.own_engine:
            self.splitter.off()

    @property
    def characters(self) -> int:
        """How much has been written by now, calls of tools included."""
        return self.text_characters + self.tool_calls.characters

    def events(self, event: dict[str, Any]) -> Iterator[Words | EngineNote]:
        """The words in what a server has sent. Raises EngineError for an error that it tells."""
        self._note(event)
        if self.own_engine:
            yield from _notes(event)
        choices = event.get("choices")
        choice = first(choices)
        self._require_no_error(event, choice)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self.has_deltas = True
        elif not self.has_deltas:  # a whole answer, or a bit of it; after deltas it repeats them
            delta = choice.get("message") or {"content": choice.get("text")}
        if isinstance(delta, dict):
            for words in self._words(delta):
                self.text_characters += 0 if isinstance(words, ThoughtsSoFar) else len(words.text)
                yield words
            self._take_calls(delta)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = "refusal" if self.has_refused else printable(reason, REASON_LIMIT)

    def _take_calls(self, delta: dict[str, Any]) -> None:
        try:
            self.tool_calls.feed(delta.get("tool_calls"))
        except TooManyCallsError as error:
            host = net.host_of(self.address.url)
            raise EngineError(f"{host} sent more than {MOST_CALLS} calls of tools in one answer") from error

    def _words(self, delta: dict[str, Any]) -> Iterator[Words]:
        thoughts = next((text for name in THOUGHTS if (text := flat(delta.get(name)))), "")
        if thoughts:
            yield from self.splitter.apart()
            yield Reasoning(thoughts)
        content = delta.get("content")
        for part in content if isinstance(content, list) else [content]:
            words = part_of(part)
            if isinstance(words, Text):
                yield from self.splitter.feed(words.text)
            elif words.text:
                yield from self.splitter.apart()
                yield words
        if refusal := flat(delta.get("refusal")):
            self.has_refused = True
            yield from self.splitter.feed(refusal)

    def _require_no_error(self, event: dict[str, Any], choice: dict[str, Any]) -> None:
        said = event.get("error") or choice.get("error")
        if not said and (event.get("object") == "error" or event.get("type") == "error"):
            said = event
        if not said and "choices" not in event and isinstance(event.get("message") or event.get("detail"), str | list):
            said = event
        if not said and choice.get("finish_reason") != "error":
            return
        words = shown(words_of(said), self.address) or "without a word of why"
        doing = "failed in the middle" if self.characters else "answered with an error"
        raise EngineError(f"{net.host_of(self.address.url)} {doing}: {words}")

    def _note(self, event: dict[str, Any]) -> None:
        self.has_events = True
        if isinstance(usage := event.get("usage"), dict):
            self.usage = Usage(_whole_number(usage.get("prompt_tokens")), _whole_number(usage.get("completion_tokens")))
        if isinstance(timings := event.get("timings"), dict):  # llama.cpp's own addition, ours and llama-server's
            self.timings = timings
        if isinstance(memory := event.get("memory"), dict):  # our own engine's
            self.measured = Measured(
                _whole_number(memory.get("anonymous_bytes")), _whole_number(memory.get("device_bytes"))
            )

    def require_end(self, response: net.Response) -> None:
        """Raises NetworkError if the stream has ended before the answer has."""
        if self.is_complete or self.finish_reason is not None:
            return
        host = net.host_of(self.address.url)
        if not self.has_events and "event-stream" not in response.headers.get("Content-Type", ""):
            raise NetworkError(f"{host} sent {NO_ANSWER}")
        raise NetworkError(f"{host} broke off in the middle of the answer")

    @property
    def finished(self) -> Finished:
        return Finished(
            self.finish_reason,
            self.usage,
            prefill_tokens=_whole_number(self.timings.get("prompt_n")),
            prefill_s=_seconds(self.timings.get("prompt_ms")),
            decode_s=_seconds(self.timings.get("predicted_ms")),
            measured=self.measured,
            preempted_per_s=_amount(self.timings.get("preempted_per_s")),
            drafted_tokens=_whole_number(self.timings.get("draft_n")),
            accepted_tokens=_whole_number(self.timings.get("draft_n_accepted")),
            compared_tokens=_whole_number(self.timings.get("draft_n_compared")),
            plain_tokens=_whole_number(self.timings.get("plain_n")),
            plain_s=_seconds(self.timings.get("plain_ms")),
        )


def _notes(event: dict[str, Any]) -> Iterator[EngineNote | ThoughtsSoFar]:
    """What our worker adds to the protocol: notes for a person, and that what it wrote so far were thoughts."""
    for note in event.get("notes") or ():
        yield EngineNote(text_of(note))
    if event.get("thoughts_so_far"):
        yield ThoughtsSoFar()


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NUMBER_LIMIT else None


def _seconds(ms: object) -> float | None:
    return ms / 1000 if isinstance(ms, int | float) and 0 < ms < NUMBER_LIMIT else None


def _amount(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < NUMBER_LIMIT else None
