"""What an engine has written, in OpenAI's shape, as events: for the shapes that are others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from llmctl.endpoint.answer import Heard
from llmctl.endpoint.events import EventParser, ServerEvent, TooLongError
from llmctl.endpoint.parts import first
from llmctl.endpoint.stream import EVENT_LIMIT_BYTES
from llmctl.errors import EngineError, NetworkError
from llmctl.types.endpoint import Address
from llmctl.types.event import EngineNote, Event, Usage, Words

ENGINE = "http://engine"
UNREADABLE = "the engine sent something that is not JSON"


class EngineEvents:
    """The events of one answer. ``cached_tokens`` of the prompt had been read before; ``stopped_at`` is the client's
    text that ended the answer. Both are None where the engine doesn't tell."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._parser = EventParser(EVENT_LIMIT_BYTES)
        self._heard = Heard(Address(ENGINE, model), own_engine=True)
        self.cached_tokens: int | None = None
        self.stopped_at: str | None = None

    def by_another_server(self) -> None:
        """The answer comes from a server that doesn't tell thoughts from the answer as our engine does."""
        self._heard = Heard(Address(ENGINE, self._model))

    @property
    def usage(self) -> Usage:
        return self._heard.usage

    def feed(self, piece: bytes) -> Iterator[Words]:
        """What is said in a piece of a stream. Raises EngineError, NetworkError."""
        try:
            events = self._parser.feed(piece)
        except TooLongError as error:
            raise NetworkError(f"the engine sent an event of more than {EVENT_LIMIT_BYTES:,} bytes") from error
        yield from self._said(events)

    def end(self) -> Iterator[Event]:
        """What is certain when the stream has ended, the last of it Finished. Raises as ``feed``."""
        yield from self._said(self._parser.end())
        if self._heard.finish_reason is None:
            raise EngineError("the engine broke off in the middle of the answer")
        yield from self._heard.splitter.end(complete=self._heard.finish_reason == "stop")
        yield from self._heard.tool_calls.calls
        yield self._heard.finished

    def whole(self, document: bytes) -> Iterator[Event]:
        """The same of an answer that isn't streamed."""
        yield from self._in(document.decode("utf-8", "replace"))
        yield from self.end()

    def _said(self, events: Iterable[ServerEvent]) -> Iterator[Words]:
        for event in events:
            if event.data.strip() != "[DONE]":
                yield from self._in(event.data)

    def _in(self, data: str) -> Iterator[Words]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise NetworkError(UNREADABLE) from error
        if not isinstance(chunk, dict):
            raise NetworkError(UNREADABLE)
        self._note(chunk)
        for said in self._heard.events(chunk):
            if not isinstance(said, EngineNote):
                yield said

    def _note(self, chunk: dict[str, Any]) -> None:
        usage, stopped_at = chunk.get("usage"), first(chunk.get("choices")).get("stop_reason")
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        self.cached_tokens = cached if isinstance(cached, int) else self.cached_tokens
        self.stopped_at = stopped_at if isinstance(stopped_at, str) else self.stopped_at
