"""Anthropic's shape: its official client asks the gateway in front of a real engine with scripted models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
import requests

from llmctl.types.endpoint import Address
from tests.fakes import gateway
from tests.fakes.gateway import Model, Models

ANSWER = "The answer is 42."
HI: Any = [{"role": "user", "content": "hi"}]
LIMIT = 64
WEATHER: Any = {
    "name": "weather",
    "description": "The weather at a place",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}


USE: Any = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"at": "Oslo"}}


def client_of(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="a key", max_retries=0, timeout=30)


@pytest.fixture
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with client_of(url) as client:
        yield client


@pytest.fixture(scope="module")
def caller(calling: Address) -> Iterator[anthropic.Anthropic]:
    with gateway.serving(Models(Model(calling, "calling"))) as url, client_of(url) as client:
        yield client


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="scripted", max_tokens=LIMIT, messages=HI, system="Be brief.")
    assert (message.type, message.role, message.model) == ("message", "assistant", "scripted")
    assert [block.model_dump() for block in message.content] == [{"citations": None, "text": ANSWER, "type": "text"}]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 5)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 0


def test_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="scripted", max_tokens=LIMIT, messages=HI) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert (message.content[0].type, message.stop_reason, message.usage.output_tokens) == ("text", "end_turn", 5)
    assert stream.get_final_text() == ANSWER
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 0
    assert [kind for kind in kinds if kind not in ("text", "content_block_delta")] == [
        *("message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"),
    ]


@pytest.mark.parametrize(
    ("fields", "reason", "text", "stop"),
    [
        ({"max_tokens": 2}, "max_tokens", "The answer", None),
        ({"stop_sequences": ["answer", " is"]}, "stop_sequence", "The ", "answer"),
        ({"stop_sequences": ["nowhere"]}, "end_turn", ANSWER, None),
    ],
)
@pytest.mark.parametrize("streams", [True, False])
def test_why_it_ended(
    client: anthropic.Anthropic, fields: dict[str, Any], reason: str, text: str, stop: str | None, streams: bool
) -> None:
    asked: dict[str, Any] = {"model": "scripted", "max_tokens": LIMIT, "messages": HI, **fields}
    if streams:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert (message.stop_reason, message.stop_sequence) == (reason, stop)
    assert message.content[0].type == "text" and message.content[0].text == text


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("thinks", [True, False])
def test_thoughts_and_a_call(caller: anthropic.Anthropic, streams: bool, thinks: bool) -> None:
    asked: dict[str, Any] = {"model": "calling", "max_tokens": LIMIT, "messages": HI, "tools": [WEATHER]}
    asked["thinking"] = {"type": "enabled", "budget_tokens": 1024} if thinks else {"type": "disabled"}
    if streams:
        with caller.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = caller.messages.create(**asked)
    *thoughts, call = message.content
    assert [block.type == "thinking" and block.thinking for block in thoughts] == (["Look it up"] if thinks else [])
    assert call.type == "tool_use" and (call.name, call.input) == ("weather", {"at": "Oslo"})
    assert message.stop_reason == "tool_use"


def test_a_conversation_with_a_result(client: anthropic.Anthropic) -> None:
    """The model is scripted, so what is shown is that every block is taken, and that the prompt grows by its words."""
    messages: Any = [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, USE]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "and now?"},
            ],
        },
    ]
    short, long = (client.messages.count_tokens(model="scripted", messages=some) for some in (HI, messages))
    assert long.input_tokens > short.input_tokens + 4
    message = client.messages.create(model="scripted", max_tokens=LIMIT, messages=messages)
    assert message.content[0].type == "text" and message.content[0].text == ANSWER
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == long.input_tokens


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"model": "other"}, "NotFoundError", "other"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "BadRequestError", "messages[0].role"),
        ({"messages": [*HI, {"role": "assistant", "content": [USE]}]}, "BadRequestError", "messages[1]"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "BadRequestError", "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "BadRequestError",
            "content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
            *("BadRequestError", "messages[0].content[0].source.type"),
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "BadRequestError",
            "tools[0].type",
        ),
        ({"messages": [{"role": "user", "content": []}]}, "BadRequestError", "messages must have something"),
        ({"system": "A", "messages": [{"role": "user", "content": []}]}, "BadRequestError", "messages must have"),
        ({"tool_choice": {"type": "tool"}}, "BadRequestError", "tool_choice.name"),
        ({"extra_body": {"wings": 2}}, "BadRequestError", "wings"),
        ({"extra_body": {"container": "box"}}, "BadRequestError", "container"),
        ({"max_tokens": 0}, "BadRequestError", "max_tokens"),
        ({"messages": [{"role": "user", "content": "long " * 900}]}, "BadRequestError", "512"),
    ],
)
def test_what_cannot_be_done_is_named(
    client: anthropic.Anthropic, fields: dict[str, Any], error: str, named: str
) -> None:
    asked: dict[str, Any] = {"model": "scripted", "max_tokens": LIMIT, "messages": HI, **fields}
    with pytest.raises(getattr(anthropic, error)) as raised:
        client.messages.create(**asked)
    body: Any = raised.value.body
    assert body["type"] == "error"
    assert named in body["error"]["message"]


def test_pings_while_the_model_is_loaded(url: str, served: Models) -> None:
    served.must_wait.set()
    body = {"model": "scripted", "max_tokens": LIMIT, "messages": HI, "stream": True}
    with requests.post(f"{url}/v1/messages", json=body, stream=True, timeout=30) as answer:
        lines = answer.iter_lines()
        kinds = [next(lines) for _ in range(6)][::3]
        served.must_wait.clear()
        rest = b"\n".join(lines)
    assert kinds == [b"event: message_start", b"event: ping"]
    assert rest.count(b"event: message_start") == 0
    assert json.loads(rest.strip().splitlines()[-1].removeprefix(b"data: ")) == {"type": "message_stop"}
