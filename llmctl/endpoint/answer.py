"""From what a server sends to the events of an answer.

What a server sends is not trusted: the answer is limited, a field of the wrong type counts as absent, and whatever it
says in words is made fit to be shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmctl import net
from llmctl.endpoint.parts import first, flat, part_of, text_of
from llmctl.endpoint.refusal import shown, words_of
from llmctl.endpoint.stream import NO_ANSWER, Clock, broken, documents, received
from llmctl.endpoint.timing import ChatTiming
from llmctl.endpoint.tool_calls import MOST_CALLS, ToolCallCollector, TooManyCallsError
from llmctl.errors import EngineError, NetworkError
from llmctl.printable import printable
from llmctl.thoughts.marks import guessed_for, marks_for
from llmctl.thoughts.splitter import ThoughtSplitter
from llmctl.types.endpoint import Address
from llmctl.types.event import EngineNote, Event, Finished, Measured, Reasoning, Text, ThoughtsSoFar, Usage, Words

ANSWER_LIMIT = 4 << 20  # characters: a million tokens, more than any model writes
NUMBER_LIMIT = 1 << 53  # no count of tokens, bytes or milliseconds is larger
REASON_LIMIT = 40
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


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
        for event in documents(received(response, clock), host):
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
            raise broken(error, host, timing, clock, has_begun=heard.characters > 0) from error
    yield from heard.splitter.end(complete=heard.finish_reason == "stop")
    heard.require_end(response)
    yield from heard.tool_calls.calls
    yield heard.finished


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
