"""Calls of tools, which servers send in bits: a name, then its arguments a few characters at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llmctl.endpoint.parts import text_of
from llmctl.types.event import ToolCall

MOST_CALLS = 128


class TooManyCallsError(ValueError):
    """There are more than MOST_CALLS calls in one answer."""


@dataclass
class CallSoFar:
    """``index`` is the server's number of the call, None from servers that don't number them."""

    index: int | None
    id: str
    name: str = ""
    arguments: str = ""


class ToolCallCollector:
    """Puts the calls of one answer together. ``characters`` is how long they are by now, all together."""

    def __init__(self) -> None:
        self._calls: list[CallSoFar] = []
        self.characters = 0

    def feed(self, deltas: object) -> None:
        """Takes the ``tool_calls`` of a delta or a message; what is no list of objects counts as absent. Raises
        TooManyCallsError."""
        for delta in deltas if isinstance(deltas, list) else ():
            function = delta.get("function") if isinstance(delta, dict) else None
            if isinstance(function, dict):
                self._add(self._call_of(delta), function)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Those that have a name; a call without an id gets its number as one."""
        named = [call for call in self._calls if call.name]
        return tuple(
            ToolCall(call.id or f"call_{number}", call.name, call.arguments) for number, call in enumerate(named)
        )

    def _call_of(self, delta: dict[str, Any]) -> CallSoFar:
        """The call that ``delta`` goes on with, or a new one: some servers give all calls the same index, or none, and
        tell them apart by their ids alone."""
        index, id_ = delta.get("index"), text_of(delta.get("id"))
        index = index if isinstance(index, int) else None
        last = next((call for call in reversed(self._calls) if index in (None, call.index)), None)
        if last is not None and id_ in ("", last.id):
            return last
        if len(self._calls) == MOST_CALLS:
            raise TooManyCallsError
        self._calls.append(CallSoFar(index, id_))
        return self._calls[-1]

    def _add(self, call: CallSoFar, function: dict[str, Any]) -> None:
        name, arguments = text_of(function.get("name")), function.get("arguments")
        written = json.dumps(arguments) if isinstance(arguments, dict) else text_of(arguments)
        call.name = call.name or name
        call.arguments += written
        self.characters += len(name) + len(written)
