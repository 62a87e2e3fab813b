"""A text goes on: requests of ``/v1/completions``, and their answers in OpenAI's shape."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.request import (
    MOST_TOP_LOGPROBS,
    OPTIONS,
    Options,
    WritingRequest,
    read_fields,
    require_known,
    whole_number,
    writing_options,
)
from llmctl.engine.llama_cpp.sampling import Logprobs
from llmctl.engine.llama_cpp.wire import Part
from llmctl.types.event import Text

if TYPE_CHECKING:
    from llmctl.engine.llama_cpp.answer import SampledAnswer

CHAT_ONLY = (
    *("parallel_tool_calls", "max_completion_tokens", "top_logprobs"),
    *("continue_final_message", "add_generation_prompt"),
)
FIELDS: Options = {
    **{name: option for name, option in OPTIONS.items() if name not in CHAT_ONLY},
    "logprobs": (whole_number(0, MOST_TOP_LOGPROBS), f"a whole number from 0 to {MOST_TOP_LOGPROBS}"),
}
# Of what other servers do, that which asks for nothing.
NOTHING: Mapping[str, tuple[Any, ...]] = {"echo": (False,), "best_of": (1,), "suffix": ("",)}
READ_ELSEWHERE = frozenset({"prompt"})


class TextCompletionRequest(WritingRequest, frozen=True):
    """``prompt`` is a text, or its tokens."""

    prompt: str | tuple[int, ...]


def read(body: bytes) -> TextCompletionRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, FIELDS, NOTHING, READ_ELSEWHERE)
    options = writing_options(
        given, grammar=given.get("grammar"), top_logprobs=given.get("logprobs"), limit=given.get("max_tokens")
    )
    return TextCompletionRequest(_prompt(given.get("prompt")), **options)


def _prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(type(token) is int for token in value):
        raise invalid("prompt must be one text, or one list of tokens")
    return tuple(value)


class TextChunks:
    """Makes the chunks of one completion by ``model``. ``bytes_of``: what a token is in text."""

    def __init__(self, model: str, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def of(self, choice: int, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        """What is new of a choice."""
        text = "".join(part.text for part in parts if isinstance(part, Text))
        yield self._chunk(choice, text, [part for part in parts if isinstance(part, Logprobs)])

    def finished(self, choice: int, answer: SampledAnswer) -> dict[str, Any]:
        return self._chunk(choice, "", finish=answer.finish)

    def last(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Usage and whatever else is known at the end."""
        return {**self._head, "choices": [], **fields}

    def _chunk(
        self, choice: int, text: str, logprobs: Sequence[Logprobs] = (), finish: str | None = None
    ) -> dict[str, Any]:
        shown = {"text": text, "index": choice, "logprobs": self._logprobs(logprobs), "finish_reason": finish}
        return {**self._head, "choices": [shown]}

    def _logprobs(self, logprobs: Sequence[Logprobs]) -> dict[str, Any] | None:
        if not logprobs:
            return None
        return {
            "tokens": [self._text(of_token.token) for of_token in logprobs],
            "token_logprobs": [of_token.logprob for of_token in logprobs],
            "top_logprobs": [{self._text(token): logprob for token, logprob in of_token.top} for of_token in logprobs],
        }

    def _text(self, token: int) -> str:
        return self._bytes_of(token).decode("utf-8", "replace")


def joined(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The one answer that all chunks are."""
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name != "choices"}
        for shown in chunk["choices"]:
            choice = choices.setdefault(shown["index"], {**shown, "text": "", "logprobs": None})
            choice["text"] += shown["text"]
            choice["finish_reason"] = shown["finish_reason"] or choice["finish_reason"]
            if shown["logprobs"] is not None:
                before = choice["logprobs"] or {name: [] for name in shown["logprobs"]}
                choice["logprobs"] = {name: [*before[name], *more] for name, more in shown["logprobs"].items()}
    return {**answer, "choices": [choices[index] for index in sorted(choices)]}
