"""When an answer counts as one that repeats itself for ever."""

from __future__ import annotations

import random

import pytest

from llmctl.engine.llama_cpp.repetition import repeats

PROSE = random.Random(1).choices(range(50_000), k=3000)


def first_seen(tokens: list[int]) -> int | None:
    return next((length for length in range(1, len(tokens) + 1) if repeats(tokens[:length])), None)


@pytest.mark.parametrize(
    ("tokens", "stopped_at"),
    [
        ([7] * 4000, 512),
        ([1, 2] * 2000, 512),
        (PROSE[:100] + [7] * 4000, 640),
        (PROSE[:200] * 20, 1600),  # a paragraph eight times
        (PROSE, None),
        ([7] * 500 + PROSE, None),  # a rule of dashes, an array of zeros
        ([value for number in range(1000) for value in (5, 6, number)], None),  # a numbered list
        (PROSE[:300] * 10, None),  # longer than any period that is looked for
    ],
)
def test_table(tokens: list[int], stopped_at: int | None) -> None:
    assert first_seen(tokens) == stopped_at
