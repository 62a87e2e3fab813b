"""How much of a prompt a step reads: by the speed of the steps before it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmctl.engine.llama_cpp.chunks import LEAST, UNMEASURED, ChunkSize, parts


@pytest.mark.parametrize(
    ("tokens_per_s", "beside_answers", "alone"),
    [(1, LEAST, LEAST), (40, LEAST, 64), (100, 32, 128), (600, 256, 512), (100_000, 512, 512)],
)
def test_half_a_second_beside_answers_and_two_without(tokens_per_s: int, beside_answers: int, alone: int) -> None:
    size = ChunkSize(512, is_shared=True)
    for _ in range(3):
        size.measured(128, 0, 128 / tokens_per_s)
    assert (size.tokens(answers=1), size.tokens(answers=0)) == (beside_answers, alone)


def test_it_follows_the_speed_and_a_few_tokens_say_nothing_of_it() -> None:
    size = ChunkSize(512, is_shared=True)
    assert (size.tokens(answers=1), size.tokens(answers=0)) == (UNMEASURED, 512)
    size.measured(512, 1, 0.5)
    size.measured(LEAST - 1, 1, 100.0)
    assert size.tokens(answers=1) == 512
    for _ in range(6):
        size.measured(512, 1, 8.0)
    assert size.tokens(answers=1) == 32


def test_what_is_computed_of_many_answers_does_not_make_reading_slow() -> None:
    size = ChunkSize(512, is_shared=True)
    for _ in range(6):
        size.measured(size.tokens(answers=15), 15, (size.tokens(answers=15) + 15) / 200)  # 200 rows a second
    assert size.tokens(answers=15) == 64


def test_where_nobody_else_can_come_it_is_the_whole_batch() -> None:
    size = ChunkSize(512, is_shared=False)
    size.measured(512, 0, 100.0)
    assert size.tokens(answers=0) == 512


@pytest.mark.parametrize(
    ("room", "left", "answers", "counts"),
    [
        (128, [1000], 0, [128]),
        (128, [1000], 2, [129]),
        (50, [1000], 0, [48]),
        (128, [100] * 3, 0, [40] * 3),
        (128, [30] * 15, 1, [9] * 15),
        (64, [5, 100, 100], 1, [5, 29, 29]),
        (16, [40] * 15, 1, [1] * 15),
        (16, [40] * 20, 1, [1] * 20),
        (128, [3, 7], 1, [3, 7]),
        (128, [], 4, []),
    ],
)
def test_prompts_are_read_together_in_equal_parts(
    room: int, left: Sequence[int], answers: int, counts: list[int]
) -> None:
    assert parts(room, left, answers=answers) == counts
