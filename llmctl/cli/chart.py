"""Pictures in scalable vector graphics, which every browser shows, written without a library: page, axes, ticks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10

from msgspec import Struct

TICKS = (1, 2, 2.5, 5, 10)
COLOURS = ("#0b6fa4", "#c2410c", "#4d7c0f", "#7e22ce", "#0f766e", "#a16207")  # dark enough on white, apart for all eyes


class Axis(Struct, frozen=True):
    """From ``low`` to ``high`` along pixels ``begin`` to ``end``; ``logarithmic`` if equal ratios are equally far."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, point = (log10(number) if self.logarithmic else number for number in (self.low, self.high, value))
        return round(self.begin + (self.end - self.begin) * (point - low) / (high - low), 1)

    def ticks(self) -> list[float]:
        """Round values, some five; on a logarithmic axis 1, 2 and 5 of each power."""
        if self.logarithmic:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        else:
            step = round_step((self.high - self.low) / 5)
            values = [step * number for number in range(ceil(self.low / step), floor(self.high / step) + 1)]
        return [value for value in values if self.low <= value <= self.high]


def round_step(least: float) -> float:
    """The smallest of TICKS, times a power of ten, that is not below ``least``."""
    power = 10.0 ** floor(log10(least))
    return next(tick * power for tick in TICKS if tick * power >= least * 0.9999)


def page(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """A whole file."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(24, 28, title, size=16, weight=600),
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    style = f' font-size="{size}" font-weight="{weight}"' if (size, weight) != (12, 400) else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def path(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False, width: float = 1) -> str:
    line = " L".join(f"{x:g} {y:g}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def dot(x: float, y: float, colour: str, words: str, radius: float = 4.5) -> str:
    """A point that tells more under the pointer."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour}"><title>{escape(words)}</title></circle>'


def grid(
    across: Axis, up: Axis, across_name: str, up_name: str, figures: Sequence[float] | None = None
) -> Iterator[str]:
    """Lines and figures of both axes, and what they are; ``figures`` for those across, in place of round ones."""
    for value in up.ticks():
        y = up.at(value)
        yield path([(across.begin, y), (across.end, y)], "#ddd")
        yield text(across.begin - 8, y + 4, f"{value:g}", anchor="end")
    for value in across.ticks() if figures is None else figures:
        x = across.at(value)
        yield path([(x, up.begin), (x, up.end)], "#eee")
        yield text(x, up.begin + 18, f"{value:,.10g}", anchor="middle")
    yield text(across.end, up.begin + 36, across_name, anchor="end")
    yield text(across.begin, up.end - 10, up_name, weight=600)
