"""Requests in Anthropic's shape (``/v1/messages``), as chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from llmctl.endpoint.encoding import CONTINUING
from llmctl.server.errors import invalid
from llmctl.server.wire import fields
from llmctl.server.wire.anthropic_answer import CountWriter, MessageWriter
from llmctl.server.wire.openai import CHAT, VARIABLES
from llmctl.server.wire.shape import AnswerWriter

COUNT = "/v1/chat/completions/input_tokens"
BILLING = "x-anthropic-billing-header:"
"""What Claude Code writes into its system prompt for its maker: other digits in each request, so nothing that was read
once could be found again."""
SPECIAL_TOOL = "is a tool that Anthropic's own servers run: this gateway has none"
IGNORED = frozenset(
    {
        *("metadata", "service_tier", "inference_geo", "speed", "cache_control", "betas", "diagnostics"),
        *("context_management", "billing_policy", "user_profile_id", "workspace_id", "fallbacks"),
    }
)


class Base64Source(Struct, tag="base64", tag_field="type"):
    media_type: str
    data: str


class TextSource(Struct, tag="text", tag_field="type"):
    data: str


class TextBlock(Struct, tag="text", tag_field="type"):
    text: str


class ImageBlock(Struct, tag="image", tag_field="type"):
    source: Base64Source


class DocumentBlock(Struct, tag="document", tag_field="type"):
    source: TextSource
    title: str | None = None


class ThinkingBlock(Struct, tag="thinking", tag_field="type"):
    thinking: str


class RedactedThinkingBlock(Struct, tag="redacted_thinking", tag_field="type"):
    pass


class ToolUseBlock(Struct, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Struct, tag="tool_result", tag_field="type"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None


Block = TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class AnthropicMessage(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    @property
    def blocks(self) -> Sequence[Block]:
        return [TextBlock(self.content)] if isinstance(self.content, str) else self.content


class AnthropicTool(Struct):
    name: str
    input_schema: dict[str, Any] | None = None
    description: str = ""
    type: str | None = None


class AnthropicToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class AnthropicThinking(Struct):
    type: Literal["enabled", "adaptive", "disabled"]


class AnthropicFormat(Struct, tag="json_schema", tag_field="type"):
    schema: dict[str, Any]


class OutputConfig(Struct):
    format: AnthropicFormat | None = None


class MessagesRequest(Struct, kw_only=True):
    """As Anthropic's clients send it, as far as it matters here."""

    messages: Annotated[list[AnthropicMessage], Meta(min_length=1)]
    model: str = ""
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[TextBlock] = ""
    tools: list[AnthropicTool] = []
    tool_choice: AnthropicToolChoice | None = None
    thinking: AnthropicThinking | None = None
    stop_sequences: list[str] = []
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    output_config: OutputConfig | None = None
    output_format: AnthropicFormat | None = None
    mcp_servers: list[Any] = []
    container: Any = None

    @property
    def wants_thoughts(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"


class AskedMessages(Struct, frozen=True):
    """``path`` is where the engine is asked: for an answer, or for the length of the prompt."""

    request: MessagesRequest
    chat: Mapping[str, Any]
    path: str

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def streams(self) -> bool:
        return self.request.stream and self.path == CHAT

    def body(self, model: str, sampling: Mapping[str, Any] | None) -> bytes:
        chat = {**(sampling or {}), **self.chat, "model": model}
        if sampling is not None:
            thinks = {"enable_thinking": self.request.wants_thoughts}
            chat[VARIABLES] = {**sampling.get(VARIABLES, {}), **thinks}
        return msgspec.json.encode(chat)

    def writer(self, model: str) -> AnswerWriter:
        if self.path == COUNT:
            return CountWriter(model, shows_thoughts=False)
        return MessageWriter(model, shows_thoughts=self.request.wants_thoughts)


def read(body: bytes, path: str = CHAT) -> AskedMessages:
    """Raises ProblemError (400), which names the field."""
    request = fields.read(body, MessagesRequest, ignored=IGNORED)
    if path == CHAT and request.max_tokens is None:
        raise invalid("max_tokens", "must be given, a whole number from 1")
    fields.refuse(
        (
            ("mcp_servers", request.mcp_servers, "can't be asked by this gateway"),
            ("container", request.container, "can't be had: this gateway runs no code"),
        )
    )
    return AskedMessages(request, _chat(request), path)


def _chat(request: MessagesRequest) -> dict[str, Any]:
    """The fields of the chat completion."""
    chat: dict[str, Any] = {"messages": _messages(request)}
    for name in ("max_tokens", "temperature", "top_p", "top_k"):
        if (value := getattr(request, name)) is not None:
            chat[name] = value
    if chat["messages"][-1]["role"] == "assistant":
        chat |= CONTINUING
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.tools:
        chat["tools"] = [_tool(tool, at) for at, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        chat |= _choice(request.tool_choice)
    wanted = request.output_format or (request.output_config and request.output_config.format)
    if wanted:
        chat["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.schema}}
    return chat


def _tool(tool: AnthropicTool, at: int) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise invalid(f"tools[{at}].type", f"{tool.type!a:.80} {SPECIAL_TOOL}")
    if tool.input_schema is None:
        raise invalid(f"tools[{at}].input_schema", "must be a JSON schema")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _choice(choice: AnthropicToolChoice) -> dict[str, Any]:
    if choice.type == "tool" and choice.name is None:
        raise invalid("tool_choice.name", "must be the name of a tool")
    only = {"type": "function", "function": {"name": choice.name}}
    wanted = {"auto": "auto", "any": "required", "none": "none", "tool": only}[choice.type]
    return {"tool_choice": wanted, **({"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {})}


def _messages(request: MessagesRequest) -> list[dict[str, Any]]:
    system = [TextBlock(request.system)] if isinstance(request.system, str) else request.system
    said = "\n\n".join(block.text for block in system if block.text and not block.text.startswith(BILLING))
    messages: list[dict[str, Any]] = [{"role": "system", "content": said}] if said else []
    turns = list(_turns(request.messages))
    if turns[-1][0] == "assistant" and not _is_begun(turns[-1][1]):
        raise invalid(
            f"messages[{len(request.messages) - 1}]", "can't be gone on with: the role is assistant, and it is no text"
        )
    for role, blocks in turns:
        messages += _assistant(blocks) if role == "assistant" else _user(role, blocks)
    if len(messages) == bool(said):
        raise invalid("messages", "must have something that is to be answered")
    return messages


def _is_begun(blocks: Sequence[Block]) -> bool:
    """Whether an answer goes on with an assistant's turn of these blocks: it has a text and calls nothing."""
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    return bool("".join(texts).strip()) and not any(isinstance(block, ToolUseBlock) for block in blocks)


def _turns(messages: Sequence[AnthropicMessage]) -> Iterator[tuple[str, list[Block]]]:
    """Messages of the same role one behind the other are one turn."""
    turn: list[Block] = []
    for at, message in enumerate(messages):
        turn += message.blocks
        if at + 1 == len(messages) or messages[at + 1].role != message.role:
            yield message.role, turn
            turn = []


def _user(role: str, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """A message for each result of a tool, then one of what else is said."""
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, ToolResultBlock):
            result = block.content or ""
            inner = [TextBlock(result)] if isinstance(result, str) else result
            text = "\n".join(part["text"] for part in map(_part, inner) if part["type"] == "text")
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
            parts += [part for part in map(_part, inner) if part["type"] != "text"]
        elif isinstance(block, TextBlock | ImageBlock | DocumentBlock):
            parts.append(_part(block))
        else:
            raise invalid(
                "messages", f"have a block that only an assistant's message may have, in one of the role {role}"
            )
    if parts:
        yield {"role": role, "content": _content(parts)}


def _part(block: TextBlock | ImageBlock | DocumentBlock) -> dict[str, Any]:
    match block:
        case TextBlock(text):
            return {"type": "text", "text": text}
        case DocumentBlock(TextSource(text), title):
            return {"type": "text", "text": f"{title}\n\n{text}" if title else text}
        case ImageBlock(Base64Source(media_type, data)):
            return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


def _content(parts: Sequence[Mapping[str, Any]]) -> str | list[Any]:
    """A text where there is nothing else: not every chat template takes a list."""
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return list(parts)


def _assistant(blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    text, thoughts, calls = "", "", []
    for block in blocks:
        match block:
            case TextBlock(said):
                text += said
            case ThinkingBlock(thought):
                thoughts += thought
            case ToolUseBlock(id_, name, given):
                function = {"name": name, "arguments": json.dumps(given)}
                calls.append({"id": id_, "type": "function", "function": function})
            case RedactedThinkingBlock():
                pass
            case _:
                raise invalid(
                    "messages", "have a block in one of the role assistant that only a user's message may have"
                )
    message = {"role": "assistant", "content": text, "reasoning_content": thoughts, "tool_calls": calls}
    yield {name: value for name, value in message.items() if value or name == "content"}


def _type(block: Block) -> str:
    return str(block.__struct_config__.tag)
