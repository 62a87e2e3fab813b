"""Speed against depth as a picture: what was measured and what was predicted, for each number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil

from llmctl import units
from llmctl.cli import chart
from llmctl.workspace.bench import BenchRow, Rates

WIDTH, HEIGHT = 880, 400
TOP, BOTTOM, LEFT, PANEL, GAP = 64, 340, 64, 352, 84
LABEL = 46  # pixels that the figure of a depth needs
Told = Callable[[BenchRow], tuple[float, float, float] | None]
"""Low, predicted and high."""


def picture(title: str, rows: Sequence[BenchRow]) -> str:
    """Decoding on the left, prefill on the right: a line with the lowest and highest of each measurement for every
    number of threads; dashed what was predicted, shaded its range."""
    parts = [
        *_panel(LEFT, "Decode", "tokens before", rows, lambda row: row.decode, _told_decode),
        *_panel(LEFT + PANEL + GAP, "Prefill", "tokens of prompt", rows, lambda row: row.prefill, _told_prefill),
        *_legend(rows),
    ]
    return chart.page(WIDTH, HEIGHT, title, parts)


def _told_decode(row: BenchRow) -> tuple[float, float, float]:
    predicted = row.predicted
    return predicted.decode_low_tok_s, predicted.decode_tok_s, predicted.decode_high_tok_s


def _told_prefill(row: BenchRow) -> tuple[float, float, float] | None:
    rate = row.predicted.prefill_tok_s
    return None if rate is None else (rate, rate, rate)


def _panel(
    left: int,
    title: str,
    below: str,
    rows: Sequence[BenchRow],
    measured: Callable[[BenchRow], Rates | None],
    guess_of: Told,
) -> Iterator[str]:
    shown = [(row, rates, guess) for row in rows if (rates := measured(row)) and (guess := guess_of(row))]
    highest = max((max(rates.high_tok_s, guess[2]) for _, rates, guess in shown), default=1.0)
    step = chart.round_step(highest / 5)
    across = chart.Axis(0, max([1, *(row.depth for row in rows)]), left, left + PANEL)
    up = chart.Axis(0, step * ceil(highest / step), BOTTOM, TOP)
    depths = list(_apart(sorted({row.depth for row in rows}), across))
    yield from chart.grid(across, up, below, f"{title}, tokens per second", depths)
    for count, colour in _coloured(rows):
        points = [(row.depth, rates, guess) for row, rates, guess in shown if row.threads == count]
        if not points:
            continue
        edge = [(across.at(depth), up.at(guess[2])) for depth, _, guess in points]
        edge += [(across.at(depth), up.at(guess[0])) for depth, _, guess in reversed(points)]
        yield f'<path d="M{" L".join(f"{x:g} {y:g}" for x, y in edge)}Z" fill="{colour}" fill-opacity="0.13"/>'
        yield chart.path([(across.at(depth), up.at(guess[1])) for depth, _, guess in points], colour, dashed=True)
        line = [(across.at(depth), up.at(rates.median_tok_s)) for depth, rates, _ in points]
        yield chart.path(line, colour, width=2)
        for (x, y), (depth, rates, guess) in zip(line, points, strict=True):
            low, high = up.at(rates.low_tok_s), up.at(rates.high_tok_s)
            ends = [(x - 4, low), (x + 4, low), (x, low), (x, high), (x - 4, high), (x + 4, high)]
            yield chart.path(ends, colour)
            words = f"{depth:,} tokens before: {rates.median_tok_s:.1f} measured, {guess[1]:.1f} predicted"
            yield chart.dot(x, y, colour, words, 3.5)


def _legend(rows: Sequence[BenchRow]) -> Iterator[str]:
    left, y = LEFT, HEIGHT - 12
    for count, colour in _coloured(rows):
        yield chart.path([(left, y - 4), (left + 24, y - 4)], colour, width=2)
        yield chart.text(left + 30, y, units.threads(count))
        left += 110
    yield chart.path([(left, y - 4), (left + 24, y - 4)], "#555", dashed=True)
    yield chart.text(left + 30, y, "predicted, shaded: its range")


def _coloured(rows: Sequence[BenchRow]) -> Iterator[tuple[int, str]]:
    """Each number of threads with its colour."""
    for number, count in enumerate(sorted({row.threads for row in rows})):
        yield count, chart.COLOURS[number % len(chart.COLOURS)]


def _apart(depths: Sequence[int], across: chart.Axis) -> Iterator[int]:
    """Those with room for a label of their own."""
    last = None
    for depth in depths:
        if last is None or across.at(depth) - across.at(last) >= LABEL:
            yield depth
            last = depth
