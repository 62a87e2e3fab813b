"""OpenAI's shape, which engines speak: requests go on as they are but for the model's name, answers without a look."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from llmctl.server.errors import Problem, invalid, openai_body
from llmctl.types.event import Usage

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
NAMELESS = (TOKENIZE, DETOKENIZE)  # the engine takes no name of a model there
STREAMED = (CHAT, COMPLETIONS)
KEPT_AT_HOME = "prompt_cache_bytes"  # writes a prompt's beginning to this machine's disk
VARIABLES = "chat_template_kwargs"
LAST_PIECES = 3  # of a stream: usage is in one of them
NO_USAGE = Usage(None, None)
RawFields = Mapping[str, msgspec.Raw]


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _WithUsage(Struct):
    usage: _Usage | None = None


class Passed(Struct, frozen=True):
    """A request that goes on with the ``fields`` that it came with."""

    fields: RawFields
    path: str
    model: str
    streams: bool

    def body(self, model: str, sampling: Mapping[str, Any] | None) -> bytes:
        fields: dict[str, Any] = dict(self.fields)
        fields.pop("model", None)
        if self.path not in NAMELESS:
            fields["model"] = model
        return msgspec.json.encode(_completed(fields, sampling or {}) if self.path == CHAT else fields)

    def writer(self, model: str) -> PassedAnswer:
        return PassedAnswer()


def read(body: bytes, path: str) -> Passed:
    """Raises ProblemError (400), which names the field."""
    fields = fields_of(body)
    if KEPT_AT_HOME in fields:
        raise invalid(KEPT_AT_HOME, "can't be set through this gateway: it keeps nothing of prompts on the disk")
    streams = bool(_value(fields, "stream", bool | None)) and path in STREAMED
    return Passed(fields, path, _value(fields, "model", str | None) or "", streams)


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """Raises ProblemError."""
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid("the body", f"must be a JSON object: {error}") from error
    except RecursionError as error:
        raise invalid("the body", "is nested too deeply") from error


def _value(fields: RawFields, name: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(fields.get(name, b"null"), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(name, "must be a text" if kind == str | None else "must be true or false") from error


def _completed(fields: dict[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """``fields``, and those of ``sampling`` that aren't among them."""
    completed = {**sampling, **fields}
    if VARIABLES in sampling and VARIABLES in fields:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the engine says what is wrong
            given = msgspec.json.decode(fields[VARIABLES], type=dict[str, msgspec.Raw])
            completed[VARIABLES] = {**sampling[VARIABLES], **given}
    return completed


class PassedAnswer:
    """An answer that goes on as it comes. ``usage`` is known at its end."""

    ping: ClassVar[bytes] = b": still at work\n\n"

    def __init__(self) -> None:
        self._last: deque[bytes] = deque(maxlen=LAST_PIECES)
        self.usage = NO_USAGE

    def by_another_server(self) -> None:
        """It is passed on all the same."""

    def begin(self) -> bytes:
        return b""

    def feed(self, piece: bytes) -> bytes:
        self._last.append(piece)
        return piece

    def end(self) -> bytes:
        for line in reversed(b"".join(self._last).split(b"\n")):
            if b'"usage"' in line and (usage := usage_of(line.removeprefix(b"data: "))) is not None:
                self.usage = usage
                break
        return b""

    def whole(self, document: bytes) -> bytes:
        self.usage = usage_of(document) or NO_USAGE
        return document

    def error(self, problem: Problem) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(openai_body(problem))


def usage_of(document: bytes) -> Usage | None:
    try:
        usage = msgspec.json.decode(document, type=_WithUsage).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if usage is None else Usage(usage.prompt_tokens, usage.completion_tokens)
