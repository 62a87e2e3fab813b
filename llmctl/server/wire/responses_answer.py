"""Answers in the shape of OpenAI's Responses: a response, or the numbered events that make one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from llmctl.server.errors import Problem
from llmctl.server.wire.engine_events import EngineEvents
from llmctl.server.wire.responses_tools import ToolName
from llmctl.types.event import EngineNote, Event, Finished, Reasoning, Text, ThoughtsSoFar, ToolCall, Usage

CUT = ("length", "repetition")
MESSAGE, REASONING, CALL = "message", "reasoning", "function_call"
PREFIX = {MESSAGE: "msg", REASONING: "rs", CALL: "fc"}
WRITTEN = {MESSAGE: ("output_text", "response.output_text"), REASONING: ("reasoning_text", "response.reasoning_text")}
"""The type of an item's one part, and what its events are called."""


class ResponseWriter:
    """One response by ``model``, with the fields of its request that it repeats. ``tools`` are those in namespaces, by
    what the model calls them."""

    ping: ClassVar[bytes] = b": still at work\n\n"

    def __init__(self, model: str, echoed: Mapping[str, Any], tools: Mapping[str, ToolName]) -> None:
        self._events = EngineEvents(model)
        self._tools = tools
        self._head = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **echoed,
        }
        self._number = 0  # of the next event
        self._output: list[dict[str, Any]] = []
        self._text = ""  # of the last item, which is being written
        self._is_open = False

    @property
    def usage(self) -> Usage:
        return self._events.usage

    def by_another_server(self) -> None:
        self._events.by_another_server()

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def feed(self, piece: bytes) -> bytes:
        return b"".join(map(self._of, self._events.feed(piece)))

    def end(self) -> bytes:
        return b"".join(map(self._of, self._events.end()))

    def whole(self, document: bytes) -> bytes:
        status = "completed"
        for said in self._events.whole(document):
            if isinstance(said, ThoughtsSoFar):
                self._all_was_thought()
            elif isinstance(said, Finished):
                self._close()
                status = _status(said)
            else:
                self._of(said)
        return msgspec.json.encode(self._response(status))

    def error(self, problem: Problem) -> bytes:
        error = {"code": "server_error" if problem.status >= 500 else problem.code, "message": problem.message}
        return self._event("response.failed", response={**self._response("failed"), "error": error})

    def _of(self, said: Event) -> bytes:
        match said:
            case Text(text):
                return self._delta(MESSAGE, text)
            case Reasoning(text):
                return self._delta(REASONING, text)
            case ToolCall():
                return self._close() + self._called(said)
            case Finished():
                return self._close() + self._last(_status(said))
            case ThoughtsSoFar():  # what was sent as text stays that
                return self._close()
            case EngineNote():
                return b""

    def _all_was_thought(self) -> None:
        thought = "".join(part["text"] for item in self._output for part in item.get("content", ())) + self._text
        self._output, self._text, self._is_open = [], "", False
        self._delta(REASONING, thought)
        self._close()

    def _delta(self, kind: str, text: str) -> bytes:
        opening = b""
        if not self._is_open or self._output[-1]["type"] != kind:
            opening = self._close() + self._open(kind)
        self._text += text
        return opening + self._part_event(f"{WRITTEN[kind][1]}.delta", delta=text, **_logprobs(kind))

    def _open(self, kind: str) -> bytes:
        self._is_open = True
        about: dict[str, Any] = {"role": "assistant"} if kind == MESSAGE else {"summary": []}
        opening = self._add({**about, "type": kind, "content": []})
        return opening + self._part_event("response.content_part.added", part=_part(kind, ""))

    def _close(self) -> bytes:
        """The item that is being written is complete."""
        if not self._is_open:
            return b""
        self._is_open = False
        item, text = self._output[-1], self._text
        kind, self._text = item["type"], ""
        done = self._part_event(f"{WRITTEN[kind][1]}.done", text=text, **_logprobs(kind))
        done += self._part_event("response.content_part.done", part=_part(kind, text))
        return done + self._done({**item, "content": [_part(kind, text)]})

    def _called(self, call: ToolCall) -> bytes:
        tool = self._tools.get(call.name, ToolName(call.name))
        item = {"type": CALL, "call_id": call.id, "name": tool.name}
        item |= {"namespace": tool.namespace} if tool.namespace else {}
        opening = self._add({**item, "arguments": ""})
        about = {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}
        delta = self._event("response.function_call_arguments.delta", **about, delta=call.arguments)
        done = self._event("response.function_call_arguments.done", **about, name=tool.name, arguments=call.arguments)
        return opening + delta + done + self._done({**self._output[-1], "arguments": call.arguments})

    def _add(self, item: dict[str, Any]) -> bytes:
        """Another item begins."""
        made = {"id": f"{PREFIX[item['type']]}_{secrets.token_hex(12)}", "status": "in_progress", **item}
        self._output.append(made)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=made)

    def _done(self, item: Mapping[str, Any]) -> bytes:
        """The last item is complete."""
        self._output[-1] = {**item, "status": "completed"}
        return self._event("response.output_item.done", output_index=len(self._output) - 1, item=self._output[-1])

    def _last(self, status: str) -> bytes:
        return self._event(f"response.{status}", response=self._response(status))

    def _part_event(self, kind: str, **fields: Any) -> bytes:
        at = {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1, "content_index": 0}
        return self._event(kind, **at, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _response(self, status: str) -> dict[str, Any]:
        is_cut = status == "incomplete"
        return {
            **self._head,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": list(self._output),
            "usage": self._usage() if status in ("completed", "incomplete") else None,
        }

    def _usage(self) -> dict[str, Any]:
        usage, cached = self._events.usage, self._events.cached_tokens or 0
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }


def _status(end: Finished) -> str:
    return "incomplete" if end.finish_reason in CUT else "completed"


def _part(kind: str, text: str) -> dict[str, Any]:
    part = {"type": WRITTEN[kind][0], "text": text}
    return {**part, "annotations": [], **_logprobs(kind)} if kind == MESSAGE else part


def _logprobs(kind: str) -> dict[str, Any]:
    """A message's events have them, a thought's don't."""
    return {"logprobs": []} if kind == MESSAGE else {}
