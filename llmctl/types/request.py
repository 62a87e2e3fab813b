"""What is asked of a model: the conversation, the tools it may call, the form of its answer, how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmctl.types.tool_call import ToolCall


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The bytes of an image file and its kind, as in ``image/png``."""

    data: bytes
    media_type: str


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """``role`` is system, user, assistant or tool. ``tool_calls`` are those that an assistant has made;
    ``tool_call_id`` is the call whose result a tool's message brings."""

    role: str
    content: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @classmethod
    def of(cls, role: str, text: str) -> Message:
        """A message of text alone."""
        return cls(role, (TextPart(text),))

    @property
    def text(self) -> str:
        """The parts that are text, one behind the other."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; ``parameters`` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The answer is to be a JSON object, of whatever fields."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is to be JSON of this schema; ``name`` is what a server calls it."""

    schema: Mapping[str, Any]
    name: str = "answer"


ResponseFormat = JsonObject | JsonSchema


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is written, by the names that servers give their fields. None leaves the choice to the model's or
    the server's default; ``extra`` holds fields without a name here, sent below the named ones."""

    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """``response_format`` None is plain text. What is ``private`` never leaves this machine, whatever the policy."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    private: bool = False

    @classmethod
    def of(cls, prompt: str, sampling: Sampling | None = None) -> Request:
        """A user's prompt and nothing else."""
        return cls((Message.of("user", prompt),), sampling=sampling or Sampling())
