"""Calls of tools as servers send them: whole, in bits, numbered or not, and more than anybody needs."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.endpoint import answer as reading
from llmctl.endpoint.tool_calls import MOST_CALLS, ToolCallCollector
from llmctl.errors import EngineError, NetworkError
from llmctl.types.event import ToolCall
from tests.fakes.chat_server import DONE, ChatServer, data, event, stream
from tests.fakes.listening import failure, heard


def bit(arguments: Any, *, index: int | None = None, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    """An entry of ``tool_calls``, with the fields that are not None."""
    named = {"name": name, "arguments": arguments}
    made = {"index": index, "id": id, "type": "function"}
    function = {key: value for key, value in named.items() if value is not None}
    return {**{key: value for key, value in made.items() if value is not None}, "function": function}


def delta(*bits: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"tool_calls": list(bits)}, "finish_reason": finish}
    return data({"choices": [choice]})


ROME = ToolCall("a", "weather", '{"city": "Roma"}')
OSLO = ToolCall("b", "weather", '{"city": "Oslo"}')
ENDS = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([[bit('{"city": "Roma"}', index=0, id="a", name="weather")]], (ROME,)),
        (
            [[bit("", index=0, id="a", name="weather")], [bit('{"city": ', index=0)], [bit('"Roma"}', index=0)]],
            (ROME,),
        ),
        (
            [
                [bit("", index=0, id="a", name="weather"), bit("", index=1, id="b", name="weather")],
                [bit('{"city": "Oslo"}', index=1), bit('{"city": "Roma"}', index=0)],
            ],
            (ROME, OSLO),
        ),
        (  # the id in each of them
            [[bit('{"city": ', index=0, id="a", name="weather")], [bit('"Roma"}', index=0, id="a", name="weather")]],
            (ROME,),
        ),
        (  # one index for all of them
            [
                [bit('{"city": "Roma"}', index=0, id="a", name="weather")],
                [bit('{"city": "Oslo"}', index=0, id="b", name="weather")],
            ],
            (ROME, OSLO),
        ),
        (  # no index at all
            [
                [bit('{"city": "Roma"}', id="a", name="weather"), bit('{"city": ', id="b", name="weather")],
                [bit('"Oslo"}')],
            ],
            (ROME, OSLO),
        ),
        ([[bit({"city": "Roma"}, index=0, id="a", name="weather")]], (ROME,)),
        ([[bit("{}", index=0, name="now")]], (ToolCall("call_0", "now", "{}"),)),
        ([[bit("{}", index=0, id="a")]], ()),  # without a name
        ([[{"index": 0}, "noise", {"function": "weather"}]], ()),
        ([{"not": "a list"}], ()),
        ([[bit(5, index=0, id="a", name="now")]], (ToolCall("a", "now", ""),)),
        ([[bit("{}", index=0, id="a", name="n\ud800w")]], (ToolCall("a", "n\ufffdw", "{}"),)),
    ],
)
def test_what_is_collected(deltas: list[Any], calls: tuple[ToolCall, ...]) -> None:
    collector = ToolCallCollector()
    for bits in deltas:
        collector.feed(bits)
    assert collector.calls == calls


def test_they_come_whole_at_the_end_of_the_stream() -> None:
    made = heard(
        event("Let me look."),
        delta(bit('{"city": ', index=0, id="a", name="weather")),
        delta(bit('"Roma"}', index=0)),
        ENDS,
        DONE,
    )
    assert made.text == "Let me look."
    assert made.tool_calls == (ROME,)
    assert made.finished.finish_reason == "tool_calls"


def test_those_of_an_answer_that_is_not_streamed() -> None:
    message = {"content": None, "tool_calls": [bit('{"city": "Roma"}', id="a", name="weather")]}
    made = heard(data({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}), DONE)
    assert made.tool_calls == (ROME,)


def test_a_call_that_breaks_off_is_none() -> None:
    with ChatServer(stream(delta(bit('{"city": ', index=0, id="a", name="weather")))) as server:
        assert "broke off in the middle" in failure(server, NetworkError).message


@pytest.mark.parametrize(
    ("bits", "says"),
    [
        ([bit("{}", index=number, id=str(number), name="now") for number in range(MOST_CALLS + 1)], "calls of tools"),
        ([bit("x" * 30, index=0), bit("x" * 30, index=0)], "more than 50 characters"),
    ],
    ids=["too-many", "too-long"],
)
def test_more_than_any_answer_has(bits: list[dict[str, Any]], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ANSWER_LIMIT", 50 if "50" in says else reading.ANSWER_LIMIT)
    with ChatServer(stream(delta(*bits), ENDS, DONE)) as server:
        assert says in failure(server, EngineError).message
