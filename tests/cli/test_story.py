"""What a person is told of an answer with --stats."""

from __future__ import annotations

import pytest

from llmctl.cli.story import figures
from llmctl.types.answer import Answer, Executed, Timings
from llmctl.types.endpoint import Side
from llmctl.types.event import Usage


@pytest.mark.parametrize(
    ("drafted", "accepted", "line"),
    [(1200, 900, "guessed 1,200 tokens ahead, 900 of them rightly"), (0, 0, None), (None, None, None)],
    ids=["drafted", "nothing drafted", "a server that doesn't tell"],
)
def test_drafted_tokens(drafted: int | None, accepted: int | None, line: str | None) -> None:
    timings = Timings(0.2, 0.5, 100.0, 16.2, 3.0, drafted, accepted)
    executed = Executed(Side.LOCAL, None, "m", "Q4_1", "why")
    answer = Answer("text", None, executed, Usage(10, 20), timings, None, None, "stop")
    lines = [shown for shown in figures(answer) if shown.startswith("guessed")]
    assert lines == ([] if line is None else [line])
