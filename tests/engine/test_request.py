"""Every field of a request is checked, and named where it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.engine.llama_cpp.refused import RefusedError
from llmctl.engine.llama_cpp.request import IGNORED, NOTHING, OPTIONS, READ_ELSEWHERE, ChatRequest, read
from llmctl.engine.llama_cpp.sampling import SamplingOptions

HI = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> ChatRequest:
    return read(json.dumps({"messages": HI, **fields}).encode())


def test_what_is_taken() -> None:
    made = request(
        model="m",
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        max_completion_tokens=5,
        seed=-1,
        temperature=0,
        top_p=0.9,
        stop="end",
        chat_template_kwargs={"enable_thinking": False, "of its own": [1]},
        n=2,
        tools=[],
        logprobs=True,
        top_logprobs=3,
        logit_bias={"5": -100, "7": 1.5},
        response_format={"type": "text"},
        frequency_penalty=None,
        prompt_cache=False,
        grammar='root ::= "x"',
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=False,
    )
    assert made == ChatRequest(
        HI,
        {"enable_thinking": False, "of its own": [1]},
        sampling=SamplingOptions(
            temperature=0,
            top_p=0.9,
            seed=0xFFFFFFFF,
            logit_bias={5: -100.0, 7: 1.5},
            grammar='root ::= "x"',
            top_logprobs=3,
        ),
        max_tokens=5,
        stop=("end",),
        choices=2,
        calls_once=True,
        streams=True,
        wants_usage=True,
        uses_cache=False,
    )
    assert request() == ChatRequest(HI)


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_a_conversation_with_tools() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": [1]}'}}
    said = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "not JSON"}}]},
    ]
    read_again = request(messages=said, tools=[TOOL], tool_choice="auto")
    called = {"name": "look", "arguments": {"a": [1]}}
    assert read_again.messages[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "seen", "tool_call_id": "call_1"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": "not JSON"}}],
        },
    ]
    assert read_again.tools.names == {"look"}
    assert read_again.tools.choose == "auto"
    only = request(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}})
    assert (only.tools.choose, only.tools.only) == ("required", "look")
    assert request(tools=[TOOL], tool_choice="none").tools.choose == "none"


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {}}}])
def test_a_form_of_the_answer_is_a_grammar(form: object) -> None:
    grammar = request(response_format=form).sampling.grammar
    assert grammar is not None and grammar.startswith("root ::= ")


BEGUN = [*HI, {"role": "assistant", "content": "one,"}]
CALLED = [*HI, {"role": "assistant", "content": "one,", "tool_calls": [{"function": {"name": "look"}}]}]
OBJECT = {"type": "json_object"}


@pytest.mark.parametrize(
    ("messages", "fields", "continues"),
    [
        (BEGUN, {}, True),
        (BEGUN, {"continue_final_message": True}, True),
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": False}, True),
        (BEGUN, {"add_generation_prompt": False}, True),
        (BEGUN, {"continue_final_message": False}, False),
        (BEGUN, {"continue_final_message": False, "add_generation_prompt": True}, False),
        (BEGUN, {"add_generation_prompt": True}, False),
        (BEGUN, {"response_format": OBJECT}, False),
        (BEGUN, {"tools": [TOOL], "tool_choice": "required"}, False),
        (BEGUN, {"tools": [TOOL]}, True),
        (HI, {}, False),
        (HI, {"add_generation_prompt": True}, False),
        (CALLED, {}, False),
        ([*HI, {"role": "assistant", "content": " \n"}], {}, False),
    ],
)
def test_whether_the_last_message_is_gone_on_with(messages: Any, fields: dict[str, Any], continues: bool) -> None:
    assert request(messages=messages, **fields).continues is continues


@pytest.mark.parametrize(
    ("messages", "fields", "words"),
    [
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": True}, "must be the opposite"),
        (BEGUN, {"continue_final_message": False, "add_generation_prompt": False}, "must be the opposite"),
        (HI, {"continue_final_message": True}, "needs a last message of the role assistant with a text"),
        (HI, {"add_generation_prompt": False}, "needs a last message of the role assistant"),
        (CALLED, {"continue_final_message": True}, "needs a last message of the role assistant"),
        (BEGUN, {"continue_final_message": True, "response_format": OBJECT}, "can't be had together"),
    ],
)
def test_what_can_not_be_gone_on_with(messages: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        request(messages=messages, **fields)


def test_the_text_of_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert request(messages=[{"role": "user", "content": parts}]).messages == [{"role": "user", "content": "ab"}]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", "5"),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_tokens", 1 << 70),
        ("seed", "x"),
        ("seed", 1 << 80),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", [0]),
        ("top_p", 2),
        ("top_k", 1 << 40),
        ("repeat_penalty", 0),
        ("stop", 5),
        ("stop", ""),
        ("stop", ["a", None]),
        ("stop", ["a"] * 17),
        ("n", 0),
        ("n", 17),
        ("n", True),
        ("model", 5),
        ("stream", "yes"),
        ("stream_options", []),
        ("prompt_cache", 1),
        ("speculate", 1),
        ("max_completion_tokens", -1),
        ("tools", [{}]),
        ("tools", {"a": 1}),
        ("tools", [{"type": "retrieval"}]),
        ("tools", [{"type": "function", "function": {"name": ""}}]),
        ("tools", [{"type": "function", "function": {"name": "a b"}}]),
        ("tools", [{"type": "function", "function": {"name": "x", "parameters": []}}]),
        ("tools", [{"type": "function", "function": {"name": "x", "colour": 1}}]),
        ("tools", [TOOL, TOOL]),
        ("tools", [TOOL] * 200),
        ("tool_choice", "required"),
        ("tool_choice", "perhaps"),
        ("tool_choice", 5),
        ("tool_choice", {"type": "function", "function": {"name": "unknown"}}),
        ("functions", [{}]),
        ("response_format", "json"),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}),
        ("response_format", {"type": "json_object", "schema": {"minimum": float("inf")}}),
        ("logprobs", 1),
        ("top_logprobs", 5),
        ("top_logprobs", 21),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": float("nan")}),
        ("logit_bias", [1]),
        ("grammar", ""),
        ("grammar", "x" * 20_000),
        ("reasoning_effort", "high"),
        ("audio", {}),
        ("chat_template_kwargs", {"x": float("nan")}),
        ("chat_template_kwargs", json.loads("[" * 70 + "]" * 70)),
        ("chat_template_kwargs", [1]),
        ("chat_template_kwargs", {"messages": []}),
        ("chat_template_kwargs", {"bos_token": "x"}),
        ("messages", "x"),
        ("messages", []),
        ("messages", [1]),
        ("messages", [{}]),
        ("messages", [{"role": 5, "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": 5}]),
        ("messages", [{"role": "user", "content": [5]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": "x", "tool_calls": [{}]}]),
        ("messages", [{"role": "assistant", "content": "x", "tool_calls": [{}]}]),
        ("messages", [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}]),
        ("messages", [{"role": "tool", "content": "x", "tool_call_id": 5}]),
    ],
)
def test_what_is_refused_is_named(field: str, value: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        request(**{field: value})
    assert refused.value.status == 400
    assert field in str(refused.value)
    assert "Error" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 1, "max_completion_tokens": 2}, "two different numbers"),
        ({"grammar": 'root ::= "x"', "response_format": {"type": "json_object"}}, "together with response_format"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "tools can't be had together"),
    ],
)
def test_fields_that_exclude_each_other(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        request(**fields)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"5", "object"),
        (b"{}", "messages"),
        (b'{"messages":' + b"[" * 100_000, "nested"),
        (b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 10_000 + b"}", "JSON"),
    ],
)
def test_bodies_that_are_no_request(body: bytes, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        read(body)


def test_half_a_surrogate_pair_in_a_name_can_be_told() -> None:
    with pytest.raises(RefusedError) as refused:
        read(b'{"messages": [{"role": "user", "content": "x"}], "\\ud800": 1}')
    str(refused.value).encode()


KEYS = ["role", "content", "type", "function", "name", "schema"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["user", "function", "json_object", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)
NAMES = sorted({*OPTIONS, *NOTHING, *READ_ELSEWHERE, *IGNORED, "x"})


@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=5))
def test_any_request_is_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        read(json.dumps({"messages": HI, **fields}).encode())
    except RefusedError as error:
        assert error.status == 400
        assert any(name in str(error) for name in fields)
