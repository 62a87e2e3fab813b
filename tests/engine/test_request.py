"""Every field of a request is checked, and named where it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmctl.engine.llama_cpp.request import ChatRequest, RefusedError, read

HI = [{"role": "user", "content": "hi"}]


def request(**fields: Any) -> ChatRequest:
    return read(json.dumps({"messages": HI, **fields}).encode())


def test_what_is_taken() -> None:
    made = request(
        model="m",
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        seed=-1,
        temperature=0,
        top_p=0.9,
        stop="end",
        chat_template_kwargs={"enable_thinking": False, "of its own": [1]},
        n=1,
        tools=[],
        logprobs=False,
        response_format={"type": "text"},
        frequency_penalty=None,
    )
    assert made == ChatRequest(
        HI,
        {"enable_thinking": False, "of its own": [1]},
        {"temp": 0, "top_p": 0.9},
        max_tokens=5,
        seed=0xFFFFFFFF,
        stop=("end",),
    )


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
        ("n", 2),
        ("n", True),
        ("tools", [{}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("logit_bias", {"1": 5}),
        ("stream", False),
        ("grammar", "root ::= x"),
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
        ("messages", [{"role": "assistant", "content": "x", "tool_calls": [{}]}]),
    ],
)
def test_what_is_refused_is_named(field: str, value: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        request(**{field: value})
    assert refused.value.status == 400
    assert field in str(refused.value)
    assert "Error" not in str(refused.value)


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
