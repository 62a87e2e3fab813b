"""Requests of other shapes as chat completions, by tables; and whatever is sent, it is read or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmctl.server.errors import ProblemError
from llmctl.server.wire import anthropic_request, openai, responses_request
from llmctl.server.wire.anthropic_answer import MessageWriter
from llmctl.server.wire.responses_answer import ResponseWriter
from llmctl.server.wire.shape import AnswerWriter, ModelRequest

AGENTS = Path(__file__).parent.parent / "fixtures" / "agents"
PIXEL = "iVBORw0KGgo="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
HI = {"role": "user", "content": "hi"}
READERS: Mapping[str, Callable[[bytes], ModelRequest]] = {
    "chat": partial(openai.read, path=openai.CHAT),
    "messages": anthropic_request.read,
    "responses": responses_request.read,
}


def chat_of(shape: str, fields: Mapping[str, Any], sampling: Mapping[str, Any] | None = None) -> Any:
    return json.loads(READERS[shape](json.dumps(fields).encode()).body("served", sampling))


@pytest.mark.parametrize(
    ("messages", "chat"),
    [
        ([HI], [HI]),
        ([HI, {"role": "user", "content": "there"}], [{"role": "user", "content": "hi\n\nthere"}]),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                        },
                    ],
                }
            ],
            [{"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE]}],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "title": "Letter",
                            "source": {"type": "text", "media_type": "text/plain", "data": "Dear"},
                        }
                    ],
                }
            ],
            [{"role": "user", "content": "Letter\n\nDear"}],
        ),
        (
            [
                HI,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "x"},
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "text", "text": "One moment"},
                        {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "a",
                            "content": [
                                {"type": "text", "text": "seen"},
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                                },
                            ],
                        },
                        {"type": "text", "text": "so?"},
                    ],
                },
            ],
            [
                HI,
                {
                    "role": "assistant",
                    "content": "One moment",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "seen"},
                {"role": "user", "content": [IMAGE, {"type": "text", "text": "so?"}]},
            ],
        ),
    ],
)
def test_messages(messages: Any, chat: Any) -> None:
    assert chat_of("messages", {"messages": messages, "max_tokens": 5})["messages"] == chat


@pytest.mark.parametrize(
    ("fields", "chat"),
    [
        ({"system": "Be brief."}, {"messages": [{"role": "system", "content": "Be brief."}, HI]}),
        (
            {"system": [{"type": "text", "text": text} for text in ("x-anthropic-billing-header: 1", "A", "B")]},
            {"messages": [{"role": "system", "content": "A\n\nB"}, HI]},
        ),
        ({"stop_sequences": ["x"], "top_k": 3, "temperature": 0}, {"stop": ["x"], "top_k": 3, "temperature": 0}),
        ({"stop_sequences": [], "top_p": None}, {"stop": None, "top_p": None}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        (
            {"tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True}},
            {"tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": False},
        ),
        (
            {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"messages": [HI, {"role": "assistant", "content": "One,"}]},
            {
                "messages": [HI, {"role": "assistant", "content": "One,"}],
                "continue_final_message": True,
                "add_generation_prompt": False,
            },
        ),
        ({}, {"continue_final_message": None}),
    ],
)
def test_fields_of_messages(fields: Any, chat: Any) -> None:
    made = chat_of("messages", {"messages": [HI], "max_tokens": 5, **fields})
    assert {name: made.get(name) for name in chat} == chat
    assert (made["model"], made["max_tokens"]) == ("served", 5)


@pytest.mark.parametrize(
    ("shape", "fields", "thinks"),
    [
        ("messages", {}, False),
        ("messages", {"thinking": {"type": "disabled"}}, False),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ("messages", {"thinking": {"type": "adaptive"}}, True),
        ("responses", {}, True),
        ("responses", {"reasoning": {"effort": "none"}}, False),
        ("responses", {"reasoning": {"effort": "high"}}, True),
        ("chat", {}, True),
        ("chat", {"chat_template_kwargs": {"enable_thinking": False}}, False),
        ("chat", {"chat_template_kwargs": {"other": 1}}, True),
    ],
)
def test_thinking(shape: str, fields: Any, thinks: bool) -> None:
    """Below what the client says stands what llmctl recommends; other servers aren't told of it."""
    base: Any = {"input": "hi"} if shape == "responses" else {"messages": [HI], "max_tokens": 5}
    sampling = {"temperature": 0.6, "top_k": 20, "chat_template_kwargs": {"enable_thinking": True}}
    made = chat_of(shape, {**base, **fields, "temperature": 0.1}, sampling)
    assert made["chat_template_kwargs"]["enable_thinking"] == thinks
    assert (made["temperature"], made["top_k"]) == (0.1, 20)
    assert "top_k" not in chat_of(shape, {**base, **fields}, None)


@pytest.mark.parametrize(
    ("items", "chat"),
    [
        ("hi", [HI]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], [HI]),
        (
            [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, HI],
            [{"role": "system", "content": "A\n\nB"}, HI],
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE["image_url"]["url"]}]}],  # type: ignore[index]
            [{"role": "user", "content": [IMAGE]}],
        ),
        (
            [
                HI,
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": None},
                {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
                {"type": "function_call", "call_id": "b", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "seen"},
            ],
            [
                HI,
                {
                    "role": "assistant",
                    "content": "",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}
                        for name in ("a", "b")
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "seen"},
            ],
        ),
    ],
)
def test_items(items: Any, chat: Any) -> None:
    assert chat_of("responses", {"input": items})["messages"] == chat


CRM = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers",
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}],
}


def test_a_tool_in_a_namespace() -> None:
    """A chat completion has none, so the model sees both names as one, and its caller gets them apart."""
    called = {"type": "function_call", "call_id": "a", "name": "look", "namespace": "crm", "arguments": "{}"}
    asked: Any = {"input": [HI, called], "tools": [CRM, {"type": "function", "name": "look"}]}
    chat = chat_of("responses", asked)
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["crm__look", "look"]
    assert chat["messages"][-1]["tool_calls"][0]["function"]["name"] == "crm__look"
    for name, namespace in (("crm__look", "crm"), ("look", None)):
        call = {"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        writer = responses_request.read(json.dumps(asked).encode()).writer("served")
        (item,) = json.loads(writer.whole(json.dumps(answer).encode()))["output"]
        assert (item["name"], item.get("namespace")) == ("look", namespace)


def sent(*chunks: Mapping[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


def chunk(delta: Mapping[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}


WRITERS: Mapping[str, Callable[[], AnswerWriter]] = {
    "messages": lambda: MessageWriter("served", shows_thoughts=True),
    "responses": lambda: ResponseWriter("served", {}, {}),
}


@pytest.mark.parametrize("shape", WRITERS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_may_come_in_any_pieces(shape: str, size: int) -> None:
    """Other servers send calls in bits, and thoughts in the text."""
    call = {"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"at"'}}
    stream = sent(
        chunk({"content": "<think>hm</think>Well"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        chunk({}, "tool_calls", usage={"prompt_tokens": 9, "completion_tokens": 4}),
    )
    writer = WRITERS[shape]()
    writer.by_another_server()
    text = writer.begin() + b"".join(writer.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    text += writer.end()
    events = [json.loads(event.split(b"\ndata: ")[1]) for event in text.strip().split(b"\n\n")]
    deltas = [event["delta"] for event in events if event["type"].endswith("delta") and "delta" in event]
    words = "".join(word if isinstance(word := delta, str) else "".join(map(str, delta.values())) for delta in deltas)
    for said in ("hm", "Well", '{"at": 1}'):
        assert said in words
    assert (writer.usage.prompt_tokens, writer.usage.completion_tokens) == (9, 4)


@pytest.mark.parametrize("shape", WRITERS)
def test_an_answer_that_breaks_off_is_no_answer(shape: str) -> None:
    writer = WRITERS[shape]()
    writer.feed(sent(chunk({"content": "The"})))
    with pytest.raises(Exception, match="broke off"):
        writer.end()


FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # neighbours take time
FIELDS = st.sampled_from(
    [
        *("messages", "input", "model", "stream", "system", "tools", "tool_choice", "thinking", "role", "content"),
        *("type", "text", "name", "input_schema", "image_url", "source", "output", "call_id", "format", "max_tokens"),
    ]
)
WORDS = st.sampled_from(["user", "assistant", "text", "tool_use", "tool_result", "function", "message", "image", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("shape", READERS)
@FEW
@given(fields=st.dictionaries(FIELDS, VALUES, max_size=5))
def test_whatever_is_sent_is_read_or_refused(shape: str, fields: Mapping[str, Any]) -> None:
    try:
        READERS[shape](json.dumps(fields).encode()).body("served", {"chat_template_kwargs": {}})
    except ProblemError as error:
        assert error.problem.status == 400 and error.problem.param


@pytest.mark.parametrize("name", ["claude_code", "codex"])
@FEW
@given(data=st.data())
def test_a_request_that_is_wrong_somewhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    """One value of a real request is another one."""
    request = data.draw(st.sampled_from(json.loads((AGENTS / f"{name}.json").read_text())["requests"]))
    inside = request["body"]
    while isinstance(inside, dict | list) and inside:
        key = data.draw(
            st.sampled_from(sorted(inside)) if isinstance(inside, dict) else st.integers(0, len(inside) - 1)
        )
        if data.draw(st.booleans()) or not isinstance(inside[key], dict | list):
            inside[key] = data.draw(VALUES)
            break
        inside = inside[key]
    shape = "responses" if name == "codex" else "messages"
    try:
        READERS[shape](json.dumps(request["body"]).encode()).body("served", {})
    except ProblemError as error:
        assert error.problem.status == 400
