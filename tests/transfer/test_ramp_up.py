"""How many connections it takes, on lines of every kind; and the limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from llmctl.transfer import ramp_up
from llmctl.transfer.ramp_up import MOST, RampUp
from llmctl.transfer.rate_limit import RateLimit

MB = 1e6
LONG = 100_000 * MB


def followed(
    rate: Callable[[int], float],
    *,
    seconds: float = 10.0,
    size_bytes: float = LONG,
    limit_bytes_per_s: float | None = None,
    round_trip_s: float = 0.02,
) -> list[int]:
    """The targets, tick by tick, on a line that brings ``rate(connections)`` bytes per second once they flow."""
    now_s, done_bytes, flowing = 0.0, 0.0, 0
    begun_s: list[float] = []
    made = RampUp(now_s, limit_bytes_per_s=limit_bytes_per_s)
    seen = []
    while now_s < seconds and done_bytes < size_bytes:
        begun_s = begun_s[: made.target] + [now_s] * (made.target - len(begun_s))
        flowing = sum(now_s - begun >= 4 * round_trip_s for begun in begun_s)
        now_s += 0.05
        done_bytes += 0.05 * rate(flowing)
        made.measure(now_s, round(done_bytes), round(size_bytes - done_bytes), flowing)
        seen.append(made.target)
    return seen


LINES: dict[str, tuple[Callable[[int], float], set[int]]] = {
    "every connection has its share": (lambda count: 20 * MB * count, {MOST}),
    "slow ones, too": (lambda count: 0.1 * MB * count, {MOST}),
    "one fills it": (lambda count: 100 * MB if count else 0, {1}),
    "four fill it": (lambda count: min(80 * MB, 20 * MB * count), {4}),
    "two and a half fill it": (lambda count: min(50 * MB, 20 * MB * count), {2, 3, 4}),
    "a machine that more of them slow down": (lambda count: 1500 * MB / max(1, count) if count else 0, {1}),
    "nothing comes": (lambda count: 0.0, {1, MOST}),
}


@pytest.mark.parametrize("round_trip_s", [0.001, 0.05, 0.2])
@pytest.mark.parametrize(("rate", "ends_at"), LINES.values(), ids=LINES.keys())
def test_lines(rate: Callable[[int], float], ends_at: set[int], round_trip_s: float) -> None:
    assert followed(rate, seconds=14, round_trip_s=round_trip_s)[-1] in ends_at


def test_the_way_up_is_short() -> None:
    targets = followed(lambda count: 20 * MB * count)
    assert targets.index(MOST) * 0.05 < 2.0
    assert [one for one in (1, 2, 4, 8) if one in targets] == [1, 2, 4, 8]


def test_what_is_over_soon_is_not_worth_it() -> None:
    assert set(followed(lambda count: 20 * MB * count, size_bytes=40 * MB)) == {1}


def test_no_more_than_the_limit_needs() -> None:
    assert followed(lambda count: min(10 * MB, 20 * MB * count), limit_bytes_per_s=10 * MB)[-1] == 1
    assert followed(lambda count: min(50 * MB, 20 * MB * count), limit_bytes_per_s=50 * MB)[-1] == 4
    assert followed(lambda count: min(90 * MB, 20 * MB * count), limit_bytes_per_s=90 * MB)[-1] == 8


def test_after_a_while_it_is_tried_again() -> None:
    now = 0

    def rate(count: int) -> float:  # a line that becomes better
        nonlocal now
        now += 1
        return 20 * MB if count and now < 20 / 0.05 else 20 * MB * count

    targets = followed(rate, seconds=3 * ramp_up.HOLD_S)
    assert targets[round(15 / 0.05)] == 1
    assert targets[-1] > 2


def test_whoever_is_turned_away_does_not_come_back_soon() -> None:
    made = RampUp(0.0, limit_bytes_per_s=None)
    made.fall_back(3, 10.0)
    for tick in range(200):
        now_s = tick * 0.05
        made.measure(now_s, round(now_s * 60 * MB), round(LONG), 3)
        assert made.target == 3
    for tick in range(200, 260):
        now_s = tick * 0.05
        made.measure(now_s, round(now_s * 60 * MB), round(LONG), 3)
    assert made.target == 4


@pytest.mark.parametrize("threads", [1, 8])
def test_the_limit_holds_over_all_connections(threads: int) -> None:
    limit, over = RateLimit(50 * MB), threading.Event()
    grain_bytes = limit.at_once_bytes(1 << 20)
    taken: list[tuple[float, int]] = []
    begun_s = time.monotonic()

    def fetch() -> None:
        while time.monotonic() - begun_s < 0.5:
            taken.append((time.monotonic() - begun_s, grain_bytes))
            limit.wait(grain_bytes, over)

    running = [threading.Thread(target=fetch) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    total = sum(count for _, count in taken)
    assert total == pytest.approx(0.5 * 50 * MB, rel=0.4)
    for from_s in (0.0, 0.1, 0.3):
        within = sum(count for at_s, count in taken if from_s <= at_s < from_s + 0.2)
        assert within <= (0.2 + 0.25) * 50 * MB


def test_a_limit_of_nothing_much_still_moves() -> None:
    assert RateLimit(10.0).at_once_bytes(1 << 20) == 1
    assert RateLimit(None).at_once_bytes(1 << 20) == 1 << 20


def test_waiting_for_the_limit_ends_when_it_is_over() -> None:
    limit, over = RateLimit(1.0), threading.Event()
    over.set()
    begun_s = time.monotonic()
    limit.wait(1000, over)
    assert time.monotonic() - begun_s < 1
