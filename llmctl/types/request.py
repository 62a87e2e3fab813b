"""What is asked of a model: the conversation, the tools it may call, the form of its answer, how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llmctl.types.event import ToolCall


class TextPart(Struct, frozen=True):
    text: str


class ImagePart(Struct, frozen=True):
    """The bytes of an image file and its kind, as in ``image/png``."""

    data: bytes
    media_type: str


Part = TextPart | ImagePart


class Message(Struct, frozen=True):
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


class Tool(Struct, frozen=True):
    """A function that the model may ask for; ``parameters`` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class JsonObject(Struct, frozen=True):
    """The answer is to be a JSON object, of whatever fields."""


class JsonSchema(Struct, frozen=True):
    """The answer is to be JSON of this schema; ``name`` is what a server calls it."""

    schema: Mapping[str, Any]
    name: str = "answer"


ResponseFormat = JsonObject | JsonSchema


class Sampling(Struct, frozen=True):
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


class Request(Struct, frozen=True):
    """``response_format`` None is plain text. What is ``private`` never leaves this machine, whatever the policy. Where
    this machine answers, beginnings of prompts may take ``prompt_cache_bytes`` on its disk, a private one's never, and
    tokens are drafted where it ``speculates``."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    private: bool = False
    prompt_cache_bytes: int = 0
    speculates: bool = True

    @property
    def image_count(self) -> int:
        return sum(isinstance(part, ImagePart) for message in self.messages for part in message.content)

    @classmethod
    def of(cls, prompt: str, sampling: Sampling | None = None) -> Request:
        """A user's prompt and nothing else."""
        return cls((Message.of("user", prompt),), sampling=sampling or Sampling())
