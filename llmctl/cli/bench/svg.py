"""Speed against depth as a picture: scalable vector graphics, which every browser shows, written without a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10

from llmctl import units
from llmctl.cli.bench.rounds import Rates, Row

WIDTH, HEIGHT = 880, 400
TOP, BOTTOM, LEFT, PANEL, GAP = 64, 340, 64, 352, 84
COLOURS = ("#0b6fa4", "#c2410c", "#4d7c0f", "#7e22ce", "#0f766e", "#a16207")  # dark enough on white, apart for all eyes
TICKS = (1, 2, 2.5, 5, 10)
Told = Callable[[Row], tuple[float, float, float] | None]
"""Low, predicted and high."""


def picture(title: str, rows: Sequence[Row]) -> str:
    """Decoding on the left, prefill on the right: a line with the lowest and highest of each measurement for every
    number of threads; dashed what was predicted, shaded its range."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        *_panel(LEFT, "Decode", "tokens before", rows, lambda row: row.decode, _told_decode),
        *_panel(LEFT + PANEL + GAP, "Prefill", "tokens of prompt", rows, lambda row: row.prefill, _told_prefill),
        *_legend(rows),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _told_decode(row: Row) -> tuple[float, float, float]:
    told = row.predicted
    return told.decode_low_tok_s, told.decode_tok_s, told.decode_high_tok_s


def _told_prefill(row: Row) -> tuple[float, float, float] | None:
    rate = row.predicted.prefill_tok_s
    return None if rate is None else (rate, rate, rate)


def _panel(
    left: int, title: str, below: str, rows: Sequence[Row], measured: Callable[[Row], Rates | None], told: Told
) -> Iterator[str]:
    shown = [(row, rates, guess) for row in rows if (rates := measured(row)) and (guess := told(row))]
    highest = max((max(rates.high_tok_s, guess[2]) for _, rates, guess in shown), default=1.0)
    step = _step(highest)
    ticks = ceil(highest / step)
    most = step * ticks
    deepest = max([1, *(row.depth for row in rows)])

    def x(depth: float) -> float:
        return round(left + PANEL * depth / deepest, 1)

    def y(rate: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * rate / most, 1)

    yield f'<text x="{left}" y="{TOP - 14}" font-weight="600">{title}, tokens per second</text>'
    for tick in range(ticks + 1):
        at = y(tick * step)
        yield f'<path d="M{left} {at}h{PANEL}" stroke="#ddd"/>'
        yield f'<text x="{left - 8}" y="{at + 4}" text-anchor="end">{tick * step:g}</text>'
    for depth in _apart(sorted({row.depth for row in rows}), deepest):
        yield f'<text x="{x(depth)}" y="{BOTTOM + 18}" text-anchor="middle">{depth:,}</text>'
    yield f'<text x="{left + PANEL}" y="{BOTTOM + 36}" text-anchor="end">{below}</text>'
    for number, count in enumerate(_counts(rows)):
        colour = COLOURS[number % len(COLOURS)]
        points = [(row.depth, rates, guess) for row, rates, guess in shown if row.threads == count]
        if not points:
            continue
        edge = [f"{x(depth)} {y(guess[2])}" for depth, _, guess in points]
        edge += [f"{x(depth)} {y(guess[0])}" for depth, _, guess in reversed(points)]
        yield f'<path d="M{" L".join(edge)}Z" fill="{colour}" fill-opacity="0.13"/>'
        dashes = " L".join(f"{x(depth)} {y(guess[1])}" for depth, _, guess in points)
        yield f'<path d="M{dashes}" fill="none" stroke="{colour}" stroke-dasharray="5 4"/>'
        line = " L".join(f"{x(depth)} {y(rates.median_tok_s)}" for depth, rates, _ in points)
        yield f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for depth, rates, guess in points:
            at, low, high = x(depth), y(rates.low_tok_s), y(rates.high_tok_s)
            yield f'<path d="M{at - 4} {low}h8M{at} {low}V{high}M{at - 4} {high}h8" fill="none" stroke="{colour}"/>'
            yield f'<circle cx="{at}" cy="{y(rates.median_tok_s)}" r="3.5" fill="{colour}">'
            words = f"{depth:,} tokens before: {rates.median_tok_s:.1f} measured, {guess[1]:.1f} predicted"
            yield f"<title>{words}</title></circle>"


def _legend(rows: Sequence[Row]) -> Iterator[str]:
    left, y = LEFT, HEIGHT - 12
    for number, count in enumerate(_counts(rows)):
        colour = COLOURS[number % len(COLOURS)]
        words = units.threads(count)
        yield f'<path d="M{left} {y - 4}h24" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{left + 30}" y="{y}">{words}</text>'
        left += 110
    yield f'<path d="M{left} {y - 4}h24" stroke="#555" stroke-dasharray="5 4"/>'
    yield f'<text x="{left + 30}" y="{y}">predicted, shaded: its range</text>'


def _counts(rows: Sequence[Row]) -> list[int]:
    return sorted({row.threads for row in rows})


def _apart(depths: Sequence[int], deepest: int) -> Iterator[int]:
    """Those with room for a label of their own."""
    last = None
    for depth in depths:
        if last is None or (depth - last) * PANEL >= 46 * deepest:
            yield depth
            last = depth


def _step(most: float) -> float:
    """What a few lines of an axis up to ``most`` are apart: five at the most."""
    least = most / 5
    power = 10.0 ** floor(log10(least))
    return next(tick * power for tick in TICKS if tick * power >= least * 0.9999)
