"""A request as JSON, in the shape of OpenAI's chat completions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, assert_never

from llmctl.types.event import ToolCall
from llmctl.types.request import (
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    Part,
    Request,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
)

CONTINUING: Mapping[str, bool] = {"continue_final_message": True, "add_generation_prompt": False}
"""By these vLLM and SGLang go on with the last message; others do so by themselves if it is an assistant's."""
SAMPLING_FIELDS = tuple(name for name in Sampling.__struct_fields__ if name != "extra")


def chat_fields(request: Request, model: str) -> dict[str, Any]:
    """The fields of a chat completion's request, with a stream as its answer."""
    made: dict[str, Any] = {
        **(request.sampling.extra or {}),
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in SAMPLING_FIELDS:
        if (value := getattr(request.sampling, name)) is not None:
            made[name] = value
    if request.tools:
        made["tools"] = [_tool(tool) for tool in request.tools]
    if request.response_format is not None:
        made["response_format"] = _response_format(request.response_format)
    return made


def _message(message: Message) -> dict[str, Any]:
    """Content of text alone is a string: not every server, and not every chat template, takes a list."""
    is_text = all(isinstance(part, TextPart) for part in message.content)
    made: dict[str, Any] = {
        "role": message.role,
        "content": message.text if is_text else [_part(part) for part in message.content],
    }
    if message.tool_calls:
        made["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    return made


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(data, media_type):
            url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
            return {"type": "image_url", "image_url": {"url": url}}
        case _:
            assert_never(part)


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    match wanted:
        case JsonObject():
            return {"type": "json_object"}
        case JsonSchema(schema, name):
            return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
        case _:
            assert_never(wanted)
