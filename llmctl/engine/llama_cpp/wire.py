"""Answers in OpenAI's shape: chunks as they are written, and the whole of them for a client that doesn't stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from llmctl.engine.llama_cpp.sampling import Logprobs
from llmctl.types.event import Text, ThoughtsSoFar, ToolCall, Words

if TYPE_CHECKING:
    from llmctl.engine.llama_cpp.answer import SampledAnswer

Part = Words | ToolCall | Logprobs


class Chunks:
    """Makes the chunks of one answer by ``model``. ``bytes_of``: what a token is in text."""

    def __init__(self, model: str, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._begun: set[int] = set()
        self._calls: dict[int, int] = {}
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def of(self, choice: int, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        """What is new of a choice. Its tokens' logprobs come with the text that follows them."""
        logprobs = [self._logprob(part) for part in parts if isinstance(part, Logprobs)]
        said = [part for part in parts if not isinstance(part, Logprobs)]
        for kind, group in groupby(said, key=type):
            some = list(group)
            if kind is ThoughtsSoFar:
                yield {**self._chunk(choice, {}), "thoughts_so_far": True}
                continue
            delta = {"tool_calls": self._called(choice, some)} if kind is ToolCall else _said(kind, some)
            yield self._chunk(choice, delta, logprobs)
            logprobs = []
        if logprobs:
            yield self._chunk(choice, {}, logprobs)

    def note(self, text: str) -> dict[str, Any]:
        """``text`` is for a person."""
        return {**self._chunk(0, {}), "notes": [text]}

    def finished(self, choice: int, answer: SampledAnswer) -> dict[str, Any]:
        """``stop_reason``, as vLLM calls it: the client's text to stop at that has ended the answer."""
        end = self._chunk(choice, {}, finish=answer.finish)
        if answer.stopped_at is not None:
            end["choices"][0]["stop_reason"] = answer.stopped_at
        return end

    def last(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Usage and whatever else is known at the end."""
        return {**self._head, "choices": [], **fields}

    def _called(self, choice: int, calls: Iterable[Any]) -> list[dict[str, Any]]:
        shown = []
        for call in calls:
            number = self._calls.get(choice, 0)
            self._calls[choice] = number + 1
            function = {"name": call.name, "arguments": call.arguments}
            shown.append({"index": number, "id": call.id, "type": "function", "function": function})
        return shown

    def _chunk(
        self, choice: int, delta: Mapping[str, Any], logprobs: Sequence[Any] = (), finish: str | None = None
    ) -> dict[str, Any]:
        role = {} if choice in self._begun else {"role": "assistant"}
        self._begun.add(choice)
        content = {"logprobs": {"content": list(logprobs)}} if logprobs else {}
        shown = {"index": choice, "delta": {**role, **delta}, **content, "finish_reason": finish}
        return {**self._head, "choices": [shown]}

    def _logprob(self, logprobs: Logprobs) -> dict[str, Any]:
        top = [self._token(token, logprob) for token, logprob in logprobs.top]
        return {**self._token(logprobs.token, logprobs.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        written = self._bytes_of(token)
        return {"token": written.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(written)}


def _said(kind: type[Part], words: Iterable[Any]) -> dict[str, Any]:
    return {"content" if kind is Text else "reasoning_content": "".join(some.text for some in words)}


def with_choices(chunks: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """``chunks`` for a client that has not asked for usage, and may look for a choice in each: what has none goes into
    the end of the choice before it."""
    end: Mapping[str, Any] | None = None
    for chunk in chunks:
        if end is not None and not chunk["choices"]:
            yield {**chunk, "choices": end["choices"]}
            end = None
            continue
        if end is not None:
            yield end
        is_end = any(choice["finish_reason"] for choice in chunk["choices"])
        end = chunk if is_end else None
        if not is_end:
            yield chunk
    if end is not None:
        yield end


def whole(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The one answer that all chunks are."""
    answer: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    notes: list[str] = []
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name not in ("choices", "thoughts_so_far", "notes")}
        notes += chunk.get("notes", [])
        for shown in chunk["choices"]:
            choice = choices.setdefault(shown["index"], _Choice())
            if chunk.get("thoughts_so_far"):
                choice.all_was_thought()
            choice.add(shown)
    shown = [choices[index].shown(index) for index in sorted(choices)]
    return {**answer, "object": "chat.completion", "choices": shown, **({"notes": notes} if notes else {})}


class _Choice:
    def __init__(self) -> None:
        self._text = self._thoughts = ""
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[Any] | None = None
        self._finish: str | None = None
        self._stop_reason: dict[str, str] = {}

    def all_was_thought(self) -> None:
        self._thoughts, self._text = self._thoughts + self._text, ""

    def add(self, shown: Mapping[str, Any]) -> None:
        delta = shown["delta"]
        self._text += delta.get("content", "")
        self._thoughts += delta.get("reasoning_content", "")
        self._calls += [{key: call[key] for key in ("id", "type", "function")} for call in delta.get("tool_calls", [])]
        if "logprobs" in shown:
            self._logprobs = [*(self._logprobs or []), *shown["logprobs"]["content"]]
        self._finish = shown["finish_reason"] or self._finish
        if "stop_reason" in shown:
            self._stop_reason = {"stop_reason": shown["stop_reason"]}

    def shown(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text or (None if self._calls else "")}
        if self._thoughts:
            message["reasoning_content"] = self._thoughts
        if self._calls:
            message["tool_calls"] = self._calls
        logprobs = None if self._logprobs is None else {"content": self._logprobs}
        end = {"finish_reason": self._finish, **self._stop_reason}
        return {"index": index, "message": message, "logprobs": logprobs, **end}
