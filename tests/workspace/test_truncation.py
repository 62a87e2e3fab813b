"""What is left of a context that is too long, from which side, and how much."""

from __future__ import annotations

import pytest

from llmctl.errors import ContextError
from llmctl.workspace.truncation import Dropped, cut, kept_characters, room_for_prompt


@pytest.mark.parametrize(
    ("dropped", "left"),
    [
        (Dropped.HEAD, "[… 6 characters left out …]\n6789"),
        (Dropped.TAIL, "0123\n[… 6 characters left out …]"),
        (Dropped.MIDDLE, "01\n[… 6 characters left out …]\n89"),
    ],
)
def test_the_part_that_was_named_goes(dropped: Dropped, left: str) -> None:
    assert cut("0123456789", 4, dropped) == left


@pytest.mark.parametrize(
    ("message", "left", "others", "kept"),
    [
        ("the prompt is 2,000 tokens, local context is 1,000", 4000, 0, 1455),  # 750 fit beside the answer
        ("desk refused the request (400): maximum context", 4000, 0, 2400),
        ("the prompt is at least 4,000 tokens, local context is 1,000", 4000, 100, 645),
        ("the prompt is 1,001 tokens, local context is 1,000", 100, 10000, None),  # the question alone is too long
    ],
)
def test_what_may_stay_goes_by_the_engine_s_numbers(message: str, left: int, others: int, kept: int | None) -> None:
    error = ContextError(message)
    if kept is None:
        with pytest.raises(ContextError):
            kept_characters(left, others, error, None)
    else:
        assert kept_characters(left, others, error, None) == kept


def test_it_becomes_less_each_time() -> None:
    error = ContextError("the prompt is 1,001 tokens, local context is 1,000")
    assert kept_characters(100, 0, error, 1) < 100


@pytest.mark.parametrize(("context", "longest", "room"), [(8192, None, 7680), (1024, None, 768), (8192, 100, 8092)])
def test_a_part_of_the_context_is_kept_for_the_answer(context: int, longest: int | None, room: int) -> None:
    assert room_for_prompt(context, longest) == room
