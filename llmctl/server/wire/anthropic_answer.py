"""Answers in Anthropic's shape: a message, or the events that make one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from llmctl.server.errors import Problem, anthropic_body
from llmctl.server.wire.engine_events import EngineEvents
from llmctl.types.event import EngineNote, Event, Finished, Reasoning, Text, ThoughtsSoFar, ToolCall, Usage

STOPS = {"stop": "end_turn", "length": "max_tokens", "repetition": "max_tokens", "tool_calls": "tool_use"}
STOPS |= {"content_filter": "refusal", "refusal": "refusal"}
TEXT, THINKING = "text", "thinking"
EMPTY = {TEXT: {"type": TEXT, "text": ""}, THINKING: {"type": THINKING, "thinking": "", "signature": ""}}
DELTA = {TEXT: "text_delta", THINKING: "thinking_delta"}


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **fields}))


class MessageWriter:
    """One message. Thoughts are left out unless the client ``shows_thoughts``."""

    ping: ClassVar[bytes] = event("ping")

    def __init__(self, model: str, *, shows_thoughts: bool) -> None:
        self._model, self._shows_thoughts = model, shows_thoughts
        self._written = EngineEvents(model)
        self._id = f"msg_{secrets.token_hex(12)}"
        self._blocks = 0  # that have begun
        self._open: str | None = None  # the kind of the block that is being written

    @property
    def usage(self) -> Usage:
        return self._written.usage

    def by_another_server(self) -> None:
        self._written.by_another_server()

    def begin(self) -> bytes:
        return event("message_start", message=self._message([], None))

    def feed(self, piece: bytes) -> bytes:
        return b"".join(map(self._of, self._written.feed(piece)))

    def end(self) -> bytes:
        return b"".join(map(self._of, self._written.end()))

    def error(self, problem: Problem) -> bytes:
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(anthropic_body(problem))

    def whole(self, document: bytes) -> bytes:
        blocks: list[dict[str, Any]] = []
        reason: str | None = None
        for said in self._written.whole(document):
            match said:
                case Text(text) | Reasoning(text):
                    _add(blocks, TEXT if isinstance(said, Text) else THINKING, text)
                case ThoughtsSoFar():
                    thought = "".join(block.get(TEXT) or block.get(THINKING, "") for block in blocks)
                    blocks = [{**EMPTY[THINKING], THINKING: thought}]
                case ToolCall():
                    blocks.append(_used(said, _input(said)))
                case Finished(finish_reason):
                    reason = finish_reason
        shown = [block for block in blocks if self._shows_thoughts or block["type"] != THINKING]
        return msgspec.json.encode(self._message(shown, reason))

    def _of(self, said: Event) -> bytes:
        match said:
            case Text(text):
                return self._delta(TEXT, text)
            case Reasoning(text):
                return self._delta(THINKING, text) if self._shows_thoughts else b""
            case ThoughtsSoFar():  # what was sent as text stays that
                return self._close()
            case ToolCall():
                return self._close() + self._call(said)
            case Finished(finish_reason):
                return self._close() + self._last(finish_reason)
            case EngineNote():
                return b""

    def _delta(self, kind: str, text: str) -> bytes:
        opening = b"" if self._open == kind else self._close() + self._start(EMPTY[kind])
        self._open = kind
        at = self._blocks - 1
        return opening + event("content_block_delta", index=at, delta={"type": DELTA[kind], kind: text})

    def _start(self, block: dict[str, Any]) -> bytes:
        self._blocks += 1
        return event("content_block_start", index=self._blocks - 1, content_block=block)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return event("content_block_stop", index=self._blocks - 1)

    def _call(self, call: ToolCall) -> bytes:
        self._open = "tool_use"
        opening = self._start(_used(call, {}))
        delta = {"type": "input_json_delta", "partial_json": json.dumps(_input(call))}
        return opening + event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _last(self, reason: str | None) -> bytes:
        delta = {"stop_reason": self._stop_reason(reason), "stop_sequence": self._written.stopped_at}
        return event("message_delta", delta=delta, usage=self._usage()) + event("message_stop")

    def _stop_reason(self, reason: str | None) -> str:
        return "stop_sequence" if self._written.stopped_at is not None else STOPS.get(reason or "", "end_turn")

    def _usage(self) -> dict[str, int]:
        usage, cached = self._written.usage, self._written.cached_tokens or 0
        return {
            "input_tokens": max(0, (usage.prompt_tokens or 0) - cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": usage.completion_tokens or 0,
        }

    def _message(self, content: Iterable[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": list(content),
            "stop_reason": None if reason is None else self._stop_reason(reason),
            "stop_sequence": self._written.stopped_at,
            "usage": self._usage(),
        }


class CountWriter(MessageWriter):
    """The length of a prompt, from the engine's ``input_tokens``."""

    def whole(self, document: bytes) -> bytes:
        return msgspec.json.encode({"input_tokens": msgspec.json.decode(document)["input_tokens"]})


def _add(blocks: list[dict[str, Any]], kind: str, text: str) -> None:
    if not blocks or blocks[-1]["type"] != kind:
        blocks.append(dict(EMPTY[kind]))
    blocks[-1][kind] += text


def _used(call: ToolCall, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; what is none is shown as the model wrote it."""
    try:
        read = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, dict) else {"arguments": call.arguments}
