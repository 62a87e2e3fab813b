"""So much in any minute, by a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from llmctl.server.rate import MINUTE_S, MinuteLimit


@pytest.mark.parametrize(
    ("added", "now_s", "wait_s"),
    [
        ([], 0, 0),
        ([(0, 1)], 0, 0),
        ([(0, 1), (0.5, 1)], 1, 59.5),
        ([(0, 1), (10, 1)], 11, 49),
        ([(0, 1), (10, 1)], 60, 0),
        ([(0, 5)], 30, 30),  # one answer may go far beyond the limit
        ([(0, 1), (10, 5)], 60, 10),
        ([(0, 1), (10, 1), (20, 1)], 30, 40),  # until the second is a minute old
    ],
)
def test_a_limit_of_two(added: list[tuple[float, int]], now_s: float, wait_s: float) -> None:
    limit = MinuteLimit(2)
    for at_s, amount in added:
        limit.add(at_s, amount)
    assert limit.wait_s(now_s) == wait_s


def test_never_more_in_any_minute() -> None:
    limit, clock, admitted = MinuteLimit(7), random.Random(1), list[float]()
    now_s = 0.0
    for _ in range(3000):
        now_s += clock.expovariate(1)
        if limit.wait_s(now_s) == 0:
            limit.add(now_s, 1)
            admitted.append(now_s)
    assert len(admitted) > 200
    for first, eighth in zip(admitted, admitted[7:], strict=False):
        assert eighth - first >= MINUTE_S


def test_after_the_wait_there_may_be_more() -> None:
    limit = MinuteLimit(3)
    for at_s in (0.1, 0.2, 5, 9.9):
        limit.add(at_s, 1)
    wait_s = limit.wait_s(10)
    assert wait_s > 0
    assert limit.wait_s(10 + wait_s - 0.01) > 0
    assert limit.wait_s(10 + wait_s) == pytest.approx(0)
