"""A request as the JSON that servers take."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.endpoint.encoding import chat_fields
from llmctl.types.event import ToolCall
from llmctl.types.request import (
    ImagePart,
    JsonObject,
    JsonSchema,
    Message,
    Request,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
)

PNG = ImagePart(b"\x89PNG", "image/png")
WEATHER = ToolCall("call_1", "weather", '{"city": "Roma"}')


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Message.of("user", "Hi"), {"role": "user", "content": "Hi"}),
        (
            Message("user", (TextPart("What is "), TextPart("this?"))),
            {"role": "user", "content": "What is this?"},
        ),
        (
            Message("user", (TextPart("What is this?"), PNG)),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                ],
            },
        ),
        (
            Message("assistant", (), tool_calls=(WEATHER,)),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Roma"}'},
                    }
                ],
            },
        ),
        (
            Message("tool", (TextPart("sunny"),), tool_call_id="call_1"),
            {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
        ),
    ],
    ids=["text", "texts", "image", "tool-call", "tool-result"],
)
def test_a_message(message: Message, fields: dict[str, Any]) -> None:
    assert chat_fields(Request((message,)), "m")["messages"] == [fields]


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        (JsonObject(), {"type": "json_object"}),
        (
            JsonSchema({"type": "array"}, "list"),
            {"type": "json_schema", "json_schema": {"name": "list", "schema": {"type": "array"}, "strict": True}},
        ),
    ],
)
def test_a_response_format(wanted: ResponseFormat, fields: dict[str, Any]) -> None:
    request = Request((Message.of("user", "Hi"),), response_format=wanted)
    assert chat_fields(request, "m")["response_format"] == fields


def test_tools() -> None:
    tool = Tool("weather", "The weather of a city.", {"type": "object"})
    made = chat_fields(Request((Message.of("user", "Hi"),), tools=(tool,)), "m")
    assert made["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "The weather of a city.",
                "parameters": {"type": "object"},
            },
        }
    ]


def test_every_way_of_sampling_has_its_field() -> None:
    asked: dict[str, Any] = {
        "max_tokens": 5,
        "temperature": 0.0,
        "seed": 0,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.5,
        "stop": ("END",),
    }
    made = chat_fields(Request.of("Hi", Sampling(**asked, extra={"top_k": 40, "logprobs": True})), "m")
    assert asked.items() <= made.items(), "zero is not nothing, and a named field stands above extra ones"
    assert made["logprobs"] is True
    assert set(made) == {*asked, "logprobs", "model", "messages", "stream", "stream_options"}


def test_private_is_not_the_servers_business() -> None:
    private = Request((Message.of("user", "Hi"),), private=True)
    assert chat_fields(private, "m") == chat_fields(Request.of("Hi"), "m")
