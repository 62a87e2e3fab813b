"""Speed against depth in a terminal: a bar for what was measured, below it the prediction with its range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmctl import units
from llmctl.workspace.bench import BenchRow

BAR_WIDTH = 52
EIGHTHS = " ▏▎▍▌▋▊▉"
Line = tuple[int, float, float, float | None, float | None]
"""Depth, measured, predicted, and the range of that where there is one."""


def bars(rows: Sequence[BenchRow]) -> Iterator[str]:
    """Of the number of threads that decodes the fastest."""
    best = max(rows, key=lambda row: row.decode.median_tok_s)
    shown = [row for row in rows if row.threads == best.threads]
    threads = "" if len(shown) == len(rows) else f" ({units.threads(best.threads)})"
    decode: list[Line] = [
        (
            row.depth,
            row.decode.median_tok_s,
            row.predicted.decode_tok_s,
            row.predicted.decode_low_tok_s,
            row.predicted.decode_high_tok_s,
        )
        for row in shown
    ]
    yield from _chart(f"decode by depth{threads}", decode)
    prefill: list[Line] = [
        (row.depth, row.prefill.median_tok_s, row.predicted.prefill_tok_s, None, None)
        for row in shown
        if row.prefill is not None and row.predicted.prefill_tok_s is not None
    ]
    if prefill:
        yield ""
        yield from _chart(f"prefill by depth{threads}", prefill)


def _chart(title: str, lines: Sequence[Line]) -> Iterator[str]:
    most = max(value for line in lines for value in line[1:] if value is not None)
    yield f"{title}: █ measured, ● predicted{' within ├─┤' if lines[0][3] is not None else ''}, tok/s"
    for depth, measured, predicted, low, high in lines:
        yield f"{depth:>8,} {_bar(measured / most)} {units.tok_s(measured)}"
        yield f"{'':8} {_mark(predicted / most, low and low / most, high and high / most)} {units.tok_s(predicted)}"


def _bar(share: float) -> str:
    whole, part = divmod(round(share * BAR_WIDTH * 8), 8)
    return ("█" * whole + EIGHTHS[part].strip()).ljust(BAR_WIDTH)


def _mark(share: float, low: float | None, high: float | None) -> str:
    line = [" "] * BAR_WIDTH
    if low is not None and high is not None:
        left, right = _at(low), _at(high)
        line[left : right + 1] = "─" * (right + 1 - left)
        line[left], line[right] = "├", "┤"
    line[_at(share)] = "●"
    return "".join(line)


def _at(share: float) -> int:
    """The column in which a bar of this length ends."""
    return min(BAR_WIDTH - 1, max(0, round(share * BAR_WIDTH) - 1))
