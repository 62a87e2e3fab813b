"""How much of a prompt a step reads: by the speed of the steps before it."""

from __future__ import annotations

import pytest

from llmctl.engine.llama_cpp.chunks import LEAST, UNMEASURED, ChunkSize


@pytest.mark.parametrize(
    ("tokens_per_s", "beside_answers", "alone"),
    [(1, LEAST, LEAST), (40, LEAST, 64), (100, 32, 128), (600, 256, 512), (100_000, 512, 512)],
)
def test_half_a_second_beside_answers_and_two_without(tokens_per_s: int, beside_answers: int, alone: int) -> None:
    size = ChunkSize(512, is_shared=True)
    for _ in range(3):
        size.measured(128, 128 / tokens_per_s)
    assert (size.tokens(beside_answers=True), size.tokens(beside_answers=False)) == (beside_answers, alone)


def test_it_follows_the_speed_and_a_few_tokens_say_nothing_of_it() -> None:
    size = ChunkSize(512, is_shared=True)
    assert (size.tokens(beside_answers=True), size.tokens(beside_answers=False)) == (UNMEASURED, 512)
    size.measured(512, 0.5)
    size.measured(LEAST - 1, 100.0)
    assert size.tokens(beside_answers=True) == 512
    for _ in range(6):
        size.measured(512, 8.0)
    assert size.tokens(beside_answers=True) == 32


def test_where_nobody_else_can_come_it_is_the_whole_batch() -> None:
    size = ChunkSize(512, is_shared=False)
    size.measured(512, 100.0)
    assert size.tokens(beside_answers=False) == 512
