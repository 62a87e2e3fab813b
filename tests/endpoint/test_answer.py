"""What is understood of what servers send, from real sockets on loopback."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.endpoint.client import chat
from llmctl.errors import EngineError, LlmctlError, NetworkError
from llmctl.types.event import Finished, Measured, Text, Usage
from tests.fakes.chat_server import DONE, ChatServer, Reply, broken_off, data, endless, event, stream, until_closed
from tests.fakes.listening import BODY, KEY, failure, heard, listen

WHOLE = (
    event(role="assistant")
    + b": a comment that keeps the connection alive\n\n"
    + event("<thi")
    + event("nk>Let me see…</thi")
    + event("nk>\n\nGrüße")
    + event(", 世界 😀")
    + event(finish="stop")
    + data({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}})
    + DONE
)


def test_a_whole_answer() -> None:
    made = heard(WHOLE)
    assert made.text == "Grüße, 世界 😀"
    assert made.reasoning == "Let me see…"
    assert made.finished == Finished("stop", Usage(7, 9))


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=40), newline=st.sampled_from([b"\n", b"\r\n"]))
@settings(max_examples=40, deadline=None)
def test_borders_of_chunks_mean_nothing(cuts: list[int], newline: bytes) -> None:
    whole = WHOLE.replace(b"\n", newline)
    borders = [0, *sorted(cuts), len(whole)]
    segments = [whole[begin:end] for begin, end in pairwise(borders)]
    assert heard(*segments) == heard(WHOLE)


def test_byte_by_byte() -> None:
    assert heard(*(bytes([byte]) for byte in WHOLE)) == heard(WHOLE)


@pytest.mark.parametrize("end", [stream, until_closed, broken_off])
def test_the_connection_may_end_as_it_likes_after_the_end_mark(end: Any) -> None:
    with ChatServer(end(WHOLE)) as server:
        assert listen(server.address()) == heard(WHOLE)


def test_pieces_come_while_the_server_still_speaks() -> None:
    with ChatServer(endless(event("more "))) as server:
        answer = chat(server.address(), BODY)
        assert next(answer) == Text("more ")
        answer.close()
        assert server.hung_up.wait(5), "who listens no longer must hang up, so that the server stops decoding"


@pytest.mark.parametrize(
    ("segments", "text", "reasoning", "finish"),
    [
        pytest.param([event("Hi", finish="stop")], "Hi", "", "stop", id="no end mark after a finish reason"),
        pytest.param([event("Hi"), DONE], "Hi", "", None, id="end mark without a finish reason"),
        pytest.param([event("Hi", finish="length"), DONE, event("late")], "Hi", "", "length", id="after the end mark"),
        pytest.param([DONE], "", "", None, id="nothing at all"),
        pytest.param([event(reasoning_content="Hm"), event("Hi"), DONE], "Hi", "Hm", None, id="reasoning_content"),
        pytest.param([event(reasoning="Hm"), event("Hi"), DONE], "Hi", "Hm", None, id="reasoning"),
        pytest.param([event(None, content=None, reasoning_content="Hm"), DONE], "", "Hm", None, id="content null"),
        pytest.param([event("<think>Hm"), event(finish="length"), DONE], "", "Hm", "length", id="cut off thinking"),
        pytest.param([event("<thi", finish="stop")], "<thi", "", "stop", id="held back to the end"),
        pytest.param([b"event: x\nid: 1\nretry: 5\n", event("Hi"), DONE], "Hi", "", None, id="other fields"),
        pytest.param([b'data:{"choices":[{"delta":{"content":"Hi"}}]}\n\n', DONE], "Hi", "", None, id="no blank"),
        pytest.param([data([1]), data(None), data("x"), event("Hi"), DONE], "Hi", "", None, id="no objects"),
        pytest.param([data({"choices": {"0": 1}}), data({"choices": [1]}), DONE], "", "", None, id="odd choices"),
        pytest.param([data({"choices": [{"delta": "Hi"}]}), event("Hi"), DONE], "Hi", "", None, id="odd delta"),
        pytest.param([event([1, {}]), event(5, reasoning={}), event("Hi"), DONE], "Hi", "", None, id="odd content"),
        pytest.param([event("?").replace(b"?", b"a\xff"), DONE], "a\ufffd", "", None, id="no UTF-8"),
        pytest.param([event("Hi", finish=7), DONE], "Hi", "", None, id="odd finish reason"),
        pytest.param([data({"error": None, "choices": []}), event("Hi"), DONE], "Hi", "", None, id="error null"),
        pytest.param([event("a\ud83d"), event("\ude00b"), DONE], "a\ufffd\ufffdb", "", None, id="halves of a pair"),
    ],
)
def test_streams(segments: list[bytes], text: str, reasoning: str, finish: str | None) -> None:
    made = heard(*segments)
    assert (made.text, made.reasoning, made.finished.finish_reason) == (text, reasoning, finish)
    made.text.encode()  # can be written


@pytest.mark.parametrize(
    ("usage", "timings", "expected"),
    [
        (None, None, (None, None, None, None)),
        ({"prompt_tokens": 3, "completion_tokens": 0}, None, (3, 0, None, None)),
        (None, {"prompt_ms": 250, "predicted_ms": 1500.5}, (None, None, 0.25, 1.5005)),
        (None, {"prompt_ms": 0, "predicted_ms": 0.0}, (None, None, None, None)),
        ({}, {}, (None, None, None, None)),
        ([3], "fast", (None, None, None, None)),
        ({"prompt_tokens": "3", "completion_tokens": None}, {"prompt_ms": "x"}, (None, None, None, None)),
        ({"prompt_tokens": -3, "completion_tokens": True}, {"prompt_ms": -1}, (None, None, None, None)),
        ({"prompt_tokens": 1.5}, {"prompt_ms": float("nan"), "predicted_ms": float("inf")}, (None,) * 4),
        ({"prompt_tokens": 10**400}, {"prompt_ms": 10**400}, (None,) * 4),
    ],
)
def test_figures(usage: object, timings: object, expected: tuple[float | None, ...]) -> None:
    last = data({"choices": [], "usage": usage, "timings": timings})
    finished = heard(event("Hi", finish="stop"), last, DONE).finished
    figures = (finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.prefill_s, finished.decode_s)
    assert figures == expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, None),
        ("much", None),
        ({}, Measured(None, None)),
        ({"anonymous_bytes": 5, "device_bytes": 0}, Measured(5, 0)),
        ({"anonymous_bytes": -5, "device_bytes": 1.5}, Measured(None, None)),
        ({"anonymous_bytes": 10**400, "device_bytes": None}, Measured(None, None)),
    ],
)
def test_memory(memory: object, expected: Measured | None) -> None:
    last = data({"choices": [], "memory": memory})
    assert heard(event("Hi", finish="stop"), last, DONE).finished.measured == expected


def test_the_last_usage_counts() -> None:
    running = [data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": n}}) for n in (1, 2)]
    assert heard(*running, data({"choices": [], "usage": None}), DONE).finished.usage == Usage(3, 2)


# What goes wrong in the middle: told, and never tried again


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        pytest.param(broken_off(event("Hi")), NetworkError, "broke off", id="cut"),
        pytest.param(broken_off(), NetworkError, "broke off", id="cut at once"),
        pytest.param(until_closed(event("Hi")), NetworkError, "broke off", id="closed without an end"),
        pytest.param(stream(event("Hi")), NetworkError, "broke off", id="ended without an end"),
        pytest.param(stream(event("Hi"), b"data: {not json\n\n", DONE), NetworkError, "not JSON", id="no JSON"),
        pytest.param(stream(b"data: " + b"[" * 100_000 + b"\n\n"), NetworkError, "not JSON", id="deep"),
        pytest.param(endless(b"data: " + b"x" * 60_000), NetworkError, "an event of more than 4,194,304", id="long"),
        pytest.param(stream(data({"error": {"message": "out of memory"}})), EngineError, "out of memory", id="error"),
        pytest.param(stream(event("Hi"), data({"error": f"\x1b[2J{KEY}"})), EngineError, "the middle: …", id="words"),
        pytest.param(stream(b"<p>Sign in</p>", content_type="text/html"), NetworkError, "OpenAI-compatible", id="page"),
        pytest.param(stream(b"{}", content_type="application/json"), NetworkError, "OpenAI-compatible", id="whole"),
    ],
)  # fmt: skip
def test_failures_after_the_answer_began(reply: Reply, kind: type[LlmctlError], says: str) -> None:
    with ChatServer(reply) as server:
        error = failure(server, kind)
    assert error.message.startswith(server.host)
    assert says in error.message
    assert error.message.isprintable()
    assert len(server.requests) == 1


def test_what_came_before_the_cut_is_kept() -> None:
    with ChatServer(broken_off(event("Hel"), event("lo"))) as server:
        answer = chat(server.address(), BODY)
        assert [next(answer), next(answer)] == [Text("Hel"), Text("lo")]
        with pytest.raises(NetworkError):
            next(answer)
