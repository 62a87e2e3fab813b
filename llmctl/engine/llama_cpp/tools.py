"""Tells calls of tools from an answer's text as it comes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

from llmctl.engine.llama_cpp.conversation import Tools
from llmctl.engine.llama_cpp.tool_formats import ToolFormat
from llmctl.engine.llama_cpp.tool_readers import UnreadableError
from llmctl.thoughts.splitter import keep
from llmctl.types.event import ToolCall

ID_LENGTH = 9  # letters and digits: what Mistral's templates insist on
BRACES = ("{", "[")
MOST_TRIES = 64  # closing marks with which a call is tried to be read; with more, the answer's end is waited for

Part = str | ToolCall


class ToolParser:
    """Feed it text as it comes. What may belong to a call is held back until the call is whole; what turns out to be
    none is text as it was."""

    def __init__(self, form: ToolFormat, tools: Tools) -> None:
        self._form = form
        self._tools = tools
        self._held = ""
        self._mark: str | None = None  # that has opened a call; empty for a brace
        self._looked = 0  # up to where the held text has been looked through for the end of the call
        self._tries = 0
        self._at_start = form.bare
        self._behind_call = False

    @property
    def before_thoughts(self) -> bool:
        """Whether it is fed before thoughts are told from the answer."""
        return self._form.before_thoughts

    def is_mark(self, text: str) -> bool:
        """Whether a control token is, or is part of, a mark of calls."""
        return len(text) > 2 and any(text in mark for mark in self._form.marks)

    def feed(self, text: str) -> list[Part]:
        """What is certain by now."""
        self._held += text
        parts: list[Part] = []
        before = None
        while (self._mark, len(self._held)) != before:
            before = self._mark, len(self._held)
            parts += self._outside() if self._mark is None else self._inside()
        return parts

    def end(self) -> list[Part]:
        """What was held back when the answer ended."""
        held, self._held = self._held, ""
        if self._mark is None:
            return [] if self._behind_call and not held.strip() else _text(held)
        mark, self._mark = self._mark, None
        return self._calls(mark, held) or _text(mark + held)

    def _outside(self) -> list[Part]:
        begun = self._held.lstrip()
        if self._behind_call or self._at_start:  # blanks there belong to nobody if a call follows
            if not begun:
                return []
            self._at_start = self._at_start and not self._behind_call
        if self._at_start and begun.startswith(BRACES):
            self._at_start, self._mark, self._looked, self._tries = False, "", 0, 0
            return []
        at, mark = _first(self._held, self._form.open)
        if mark:
            text, self._held = self._held[:at], self._held[at + len(mark) :]
            self._mark, self._looked, self._tries, self._at_start = mark, 0, 0, False
            return [] if self._behind_call and not text.strip() else _text(text)
        text, self._held = keep(self._held, self._form.open)
        if text.strip():
            self._behind_call = self._at_start = False
        elif self._behind_call or self._at_start:
            self._held, text = text + self._held, ""
        return _text(text)

    def _inside(self) -> list[Part]:
        """The first closing mark with which the text is a call: it may also stand in an argument."""
        assert self._mark is not None
        while self._tries < MOST_TRIES:
            at, close = _first(self._held, self._form.close, self._looked)
            if not close:
                longest = max(map(len, self._form.close), default=0)
                self._looked = max(self._looked, len(self._held) - longest + 1)
                return []
            self._looked, self._tries = at + len(close), self._tries + 1
            body = self._held[: self._looked] if self._mark in self._form.keeps else self._held[:at]
            if calls := self._calls(self._mark, body):
                self._held, self._mark, self._behind_call = self._held[self._looked :], None, True
                return calls
        return []

    def _calls(self, mark: str, body: str) -> list[Part]:
        try:
            calls = self._form.read((mark if mark in self._form.keeps else "") + body, self._tools)
        except UnreadableError:
            return []
        return [
            ToolCall(
                secrets.token_hex(ID_LENGTH)[:ID_LENGTH], call.name, json.dumps(call.arguments, ensure_ascii=False)
            )
            for call in calls
        ]


def _text(text: str) -> list[Part]:
    return [text] if text else []


def _first(text: str, marks: Sequence[str], begin: int = 0) -> tuple[int, str]:
    """Where the first mark is and which, the longest of those there; ``(-1, "")`` if there is none."""
    places = [(at, -len(mark), mark) for mark in marks if (at := text.find(mark, begin)) >= 0]
    return (min(places)[0], min(places)[2]) if places else (-1, "")
