"""What of an answer has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import assert_never

from llmctl.types.answer import LeftMachine
from llmctl.types.event import EngineNote, Event, Finished, Reasoning, Text, ThoughtsSoFar, ToolCall
from llmctl.types.plan import Fit


@dataclass
class PartialAnswer:
    """What has been answered so far. It outlives an error, so that a partial answer is never lost. ``fit`` is what was
    loaded for it here: not always what was planned; ``cost`` is that of the server which has answered."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    first_token: float | None = None
    last_token: float | None = None
    load_s: float | None = None
    fit: Fit | None = None
    left: LeftMachine | None = None
    cost: float | None = None

    def sent(self, count: int, host: str, *, tls: bool, sealed: str | None = None) -> None:
        """Notes that ``count`` bytes more have left; ``sealed`` as ``LeftMachine`` has it."""
        more = LeftMachine(host, count, tls, sealed=sealed)
        self.left = more if self.left is None else self.left.and_sent(more)

    def add(self, event: Event) -> None:
        match event:
            case EngineNote() | Finished():
                return
            case ToolCall():
                pass
            case ThoughtsSoFar():
                self.reasoning += self.text
                self.text.clear()
                return
            case Text(text):
                self.text.append(text)
            case Reasoning(text):
                self.reasoning.append(text)
            case _:
                assert_never(event)
        self.last_token = time.perf_counter()
        self.first_token = self.first_token or self.last_token
