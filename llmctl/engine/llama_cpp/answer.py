"""From the tokens of an answer to its text and thoughts."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmctl.engine.llama_cpp.tools import ToolParser
from llmctl.engine.llama_cpp.vocabulary import Vocabulary
from llmctl.thoughts.marks import Marks
from llmctl.thoughts.splitter import ThoughtSplitter, keep
from llmctl.types.event import Text, ThoughtsSoFar, ToolCall, Words

Said = Words | ToolCall


@dataclass
class SampledAnswer:
    """What has been sampled, and what of it is certain. ``calls_once``: the first call of a tool ends it.
    ``is_literal``: thoughts are no different from other text."""

    vocabulary: Vocabulary
    opened: Marks | None
    stop: tuple[str, ...]
    tools: ToolParser | None = None
    calls_once: bool = False
    is_literal: bool = False
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    stopped_at: str | None = None  # the text of ``stop`` that ended it

    def __post_init__(self) -> None:
        rows = self.vocabulary.rows
        self._splitter = ThoughtSplitter(rows, opened=self.opened, lone=self.vocabulary.lone)
        if self.is_literal:
            self._splitter.off()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of what may be a text to stop at
        self._stopped = False
        self._has_called = False
        self._control: set[str] = set()

    @property
    def is_thinking(self) -> bool:
        return bool(self._splitter.closes)

    def closes_thought(self, token: int) -> bool:
        """Whether a token that ends an answer ends a thought here: <|end|> does both."""
        return self.vocabulary.text(token) in self._splitter.closes

    def add(self, token: int) -> list[Said]:
        self.tokens.append(token)
        return self._certain(self._read(self._written(token)))

    def end(self) -> list[Said]:
        parts = self._read(self._decoder.decode(b"", final=True))
        if self.tools is not None and self.tools.before_thoughts:
            parts = [*parts, *self._split(self.tools.end())]
        parts = [*parts, *self._called(self._splitter.end(complete=self.finish == "stop"))]
        if self.tools is not None and not self.tools.before_thoughts:
            parts = [*parts, *map(_as_text, self.tools.end())]
        certain = self._certain(parts)
        held, self._held = self._held, ""
        if self._has_called and self.finish == "stop" and not self._stopped:
            self.finish = "tool_calls"
        return [*certain, Text(held)] if held else certain

    def _written(self, token: int) -> str:
        written = self.vocabulary.bytes_of(token)
        if not written and (mark := self._mark(token)):
            self._control.add(mark)
            return self._decoder.decode(b"", final=True) + mark
        return self._decoder.decode(written)

    def _mark(self, token: int) -> str:
        """The text of a control token that says something of thoughts or tools."""
        if self.is_literal:
            return ""
        text = self.vocabulary.text(token)
        return text if self.tools is not None and self.tools.is_mark(text) else self.vocabulary.mark(token)

    def _read(self, text: str) -> list[Said]:
        if self.tools is not None and self.tools.before_thoughts:
            return self._split(self.tools.feed(text))
        return self._called(self._splitter.feed(text))

    def _split(self, parts: Sequence[str | ToolCall]) -> list[Said]:
        """The thoughts in what is no call."""
        split: list[Said] = []
        for part in parts:
            split += self._splitter.feed(part) if isinstance(part, str) else [part]
        return split

    def _called(self, pieces: Sequence[Words]) -> list[Said]:
        """The calls in what is no thought."""
        if self.tools is None or self.tools.before_thoughts:
            return list(pieces)
        called: list[Said] = []
        for piece in pieces:
            called += map(_as_text, self.tools.feed(piece.text)) if isinstance(piece, Text) else [piece]
        return called

    def _certain(self, parts: Sequence[Said]) -> list[Said]:
        """Without control tokens that were no mark where they stood, and cut at the texts to stop at."""
        certain: list[Said] = []
        for part in parts:
            if isinstance(part, ToolCall):
                self._add_call(part, certain)
                continue
            if isinstance(part, ThoughtsSoFar):
                certain.append(part)
                continue
            text = part.text
            for mark in self._control:
                text = text.replace(mark, "")
            if isinstance(part, Text) and self.stop:
                text = self._until_stop(text)
            if text:
                certain.append(type(part)(text))
        return certain

    def _add_call(self, call: ToolCall, certain: list[Said]) -> None:
        if self._stopped or (self._has_called and self.calls_once):
            return
        certain.append(call)
        self._has_called = True
        if self.calls_once:
            self.finish = "tool_calls"

    def _until_stop(self, text: str) -> str:
        if self._stopped:
            return ""
        text, self._held = self._held + text, ""
        at, stop = min(((at, stop) for stop in self.stop if (at := text.find(stop)) >= 0), default=(-1, None))
        if at >= 0:
            self.finish, self._stopped, self.stopped_at = "stop", True, stop
            return text[:at]
        certain, self._held = keep(text, self.stop)
        return certain


def _as_text(part: str | ToolCall) -> Said:
    return Text(part) if isinstance(part, str) else part


def behind_the_last_message(prompt: str, messages: Sequence[Mapping[str, Any]], rows: Sequence[Marks]) -> str:
    """What the template has written behind the last message, in which there may be anything. Marks are no part of
    its words: "hi" is not the middle of <think>."""
    marks = [mark for row in rows for mark in (*row.open, *row.close)]
    masked, said = prompt, messages[-1]["content"].strip()
    for mark in marks:
        masked, said = (text.replace(mark, "\0" * len(mark)) for text in (masked, said))
    at = masked.rfind(said) if said else -1
    return prompt if at < 0 else prompt[at + len(said) :]
