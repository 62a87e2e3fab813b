"""Requests in the shape of OpenAI's Responses (``/v1/responses``), as chat completions. Nothing is kept from one to the
next, so each brings its whole conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from llmctl.server.errors import invalid
from llmctl.server.wire import fields, responses_tools
from llmctl.server.wire.openai import CHAT, VARIABLES
from llmctl.server.wire.responses_answer import ResponseWriter
from llmctl.server.wire.responses_tools import ToolName
from llmctl.server.wire.shape import AnswerWriter

IGNORED = frozenset(
    {
        *("metadata", "user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("prompt_cache_options", "stream_options", "client_metadata", "max_tool_calls", "context_management"),
        *("moderation", "access_programs"),
    }
)
KEPT_NOTHING = "can't be had: nothing is kept from one request to the next, so input must bring the whole conversation"
INCLUDED = ("reasoning.encrypted_content",)
"""What may be wanted beside an answer. Thoughts come as they are, in no need of a key."""
WITHOUT_THOUGHTS = ("none", "minimal")


class InputText(Struct, tag="input_text", tag_field="type"):
    text: str


class OutputText(Struct, tag="output_text", tag_field="type"):
    text: str


class RefusalText(Struct, tag="refusal", tag_field="type"):
    refusal: str


class InputImage(Struct, tag="input_image", tag_field="type"):
    image_url: str


InputPart = InputText | OutputText | RefusalText | InputImage


class MessageItem(Struct, tag="message", tag_field="type"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]


class CallItem(Struct, tag="function_call", tag_field="type"):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CallOutputItem(Struct, tag="function_call_output", tag_field="type"):
    call_id: str
    output: str | list[InputPart]


class ThoughtText(Struct):
    text: str = ""


class ReasoningItem(Struct, tag="reasoning", tag_field="type"):
    summary: list[ThoughtText] = []
    content: list[ThoughtText] | None = None


InputItem = MessageItem | CallItem | CallOutputItem | ReasoningItem


class ReasoningWanted(Struct):
    effort: str | None = None


class TextWanted(Struct):
    format: dict[str, Any] | None = None


class ResponsesRequest(Struct, kw_only=True):
    """As OpenAI's clients send it, as far as it matters here."""

    input: str | list[dict[str, Any]]
    model: str = ""
    instructions: str = ""
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    reasoning: ReasoningWanted | None = None
    text: TextWanted | None = None
    stream: bool = False
    store: bool = False
    include: list[str] = []
    truncation: str = "disabled"
    top_logprobs: int = 0
    background: bool = False
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None


class AskedResponse(Struct, frozen=True):
    request: ResponsesRequest
    chat: Mapping[str, Any]
    path: str = CHAT

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def streams(self) -> bool:
        return self.request.stream

    def body(self, model: str, sampling: Mapping[str, Any] | None) -> bytes:
        chat = {**(sampling or {}), **self.chat, "model": model}
        effort = self.request.reasoning and self.request.reasoning.effort
        if sampling is not None and effort:
            thinks = {"enable_thinking": effort not in WITHOUT_THOUGHTS}
            chat[VARIABLES] = {**sampling.get(VARIABLES, {}), **thinks}
        return msgspec.json.encode(chat)

    def writer(self, model: str) -> AnswerWriter:
        return ResponseWriter(model, _echoed(self.request), responses_tools.names(self.request.tools))


def _echoed(request: ResponsesRequest) -> dict[str, Any]:
    """The fields of a response that repeat its request's."""
    return {
        "instructions": request.instructions or None,
        "max_output_tokens": request.max_output_tokens,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning and request.reasoning.effort, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": (request.text and request.text.format) or {"type": "text"}},
        "tool_choice": request.tool_choice,
        "tools": request.tools,
        "top_p": request.top_p,
        "truncation": "disabled",
        "metadata": {},
    }


def read(body: bytes) -> AskedResponse:
    """Raises ProblemError (400), which names the field."""
    request = fields.read(body, ResponsesRequest, ignored=IGNORED)
    fields.refuse(
        (
            ("previous_response_id", request.previous_response_id, KEPT_NOTHING),
            ("conversation", request.conversation, KEPT_NOTHING),
            ("store", request.store, "must be false: this gateway keeps no answers"),
            ("background", request.background, "must be false: this gateway keeps no answers"),
            ("prompt", request.prompt, "can't be had: this gateway keeps no prompts; send instructions and input"),
            ("truncation", request.truncation != "disabled", "must be disabled: nothing is left out unasked"),
            ("top_logprobs", request.top_logprobs, "can't be had here: /v1/chat/completions has them"),
        )
    )
    for at, name in enumerate(request.include):
        if name not in INCLUDED:
            raise invalid(f"include[{at}]", f"{name!a:.80} can't be had")
    return AskedResponse(request, _chat(request))


def _chat(request: ResponsesRequest) -> dict[str, Any]:
    """The fields of the chat completion."""
    chat: dict[str, Any] = {"messages": _messages(request)}
    limits = {"max_tokens": request.max_output_tokens, "temperature": request.temperature, "top_p": request.top_p}
    chat |= {name: value for name, value in limits.items() if value is not None}
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if tools := responses_tools.chat_tools(request.tools):
        chat |= {"tools": tools, "tool_choice": _choice(request.tool_choice)}
        chat |= {} if request.parallel_tool_calls else {"parallel_tool_calls": False}
    if request.text is not None and request.text.format is not None:
        chat["response_format"] = _format(request.text.format)
    return chat


def _choice(choice: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    if isinstance(choice, str):
        return choice
    if choice.get("type") != "function":
        raise invalid("tool_choice.type", f"must be function, not {choice.get('type')!a:.80}")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    described = {name: wanted[name] for name in ("name", "schema", "strict") if wanted.get(name) is not None}
    return {"type": "json_schema", "json_schema": described}


def _messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    system = [request.instructions] if request.instructions else []
    if isinstance(request.input, str):
        items: list[InputItem] = [MessageItem("user", request.input)]
    else:
        items = [_item(item, at) for at, item in enumerate(request.input)]
    while items and isinstance(item := items[0], MessageItem) and item.role in ("system", "developer"):
        system.append(_text(_parts(item.content)))
        items = items[1:]
    if not items:
        raise invalid("input", "must have something that is to be answered")
    messages: list[dict[str, Any]] = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    return messages + list(_turns(items))


def _item(item: dict[str, Any], at: int) -> InputItem:
    try:
        read: InputItem = msgspec.convert({"type": "message", **item}, InputItem)
    except msgspec.ValidationError as error:
        raise fields.unreadable(error, f"input[{at}]") from error
    return read


def _turns(items: Sequence[InputItem]) -> Iterator[dict[str, Any]]:
    """What an assistant has thought, said and called one after the other is one message."""
    turn: dict[str, Any] = {}
    for item in items:
        if isinstance(item, CallOutputItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            if turn:
                yield {"role": "assistant", "content": "", **turn}
                turn = {}
            yield from _said(item)
        else:
            _add(turn, item)
    if turn:
        yield {"role": "assistant", "content": "", **turn}


def _add(turn: dict[str, Any], item: InputItem) -> None:
    match item:
        case MessageItem(_, content):
            turn["content"] = turn.get("content", "") + _text(_parts(content))
        case ReasoningItem(summary, content):
            thought = "".join(part.text for part in content or summary)
            if thought:
                turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
        case CallItem(call_id, name, arguments, namespace):
            function = {"name": ToolName(name, namespace or "").in_chat, "arguments": arguments}
            call = {"id": call_id, "type": "function", "function": function}
            turn.setdefault("tool_calls", []).append(call)


def _said(item: MessageItem | CallOutputItem) -> Iterator[dict[str, Any]]:
    if isinstance(item, MessageItem):
        yield {"role": item.role, "content": _content(_parts(item.content))}
        return
    parts = _parts(item.output)
    yield {"role": "tool", "tool_call_id": item.call_id, "content": _text(parts)}
    if images := [part for part in parts if part["type"] != "text"]:
        yield {"role": "user", "content": images}


def _parts(content: str | Sequence[InputPart]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [_part(part) for part in content]


def _part(part: InputPart) -> dict[str, Any]:
    match part:
        case InputImage(url):
            return {"type": "image_url", "image_url": {"url": url}}
        case InputText(text) | OutputText(text) | RefusalText(text):
            return {"type": "text", "text": text}


def _text(parts: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(part["text"] for part in parts if part["type"] == "text")


def _content(parts: Sequence[Mapping[str, Any]]) -> str | list[Any]:
    """A text where there is nothing else: not every chat template takes a list."""
    return _text(parts) if all(part["type"] == "text" for part in parts) else list(parts)
