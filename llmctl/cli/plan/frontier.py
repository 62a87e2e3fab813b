"""Quality against speed, for a terminal and as a picture: what is chosen among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log10
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl import units

if TYPE_CHECKING:
    from llmctl.types.plan import Fit, Plan

COLUMNS, ROWS = 66, 9
FLOOR, PICKED, OTHER = "┊", "●", "○"
DEEPEST = 40  # index points below the best; what is worse is not chosen among
SPREAD = 1.15  # room beside the slowest and the fastest, as a factor
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 480, 64, 640, 76, 420


class Point(Struct, frozen=True):
    """One fit: ``name`` is that of a pick, or empty."""

    name: str
    label: str
    speed: float
    low: float
    high: float
    quality: float


def points(plan: Plan, *, writes: bool) -> list[Point]:
    """The frontier, the highest quality first. What has none, or one that is DEEPEST below the best, is not on it."""
    names = {_id(fit): name for name, fit in reversed(list(plan.picks.items()))}
    least = (plan.choice.quality or 0) - DEEPEST
    fits = [fit for fit in (plan.choice, *plan.alternatives) if fit.quality is not None and fit.quality >= least]
    fits.sort(key=lambda fit: -(fit.quality or 0))
    return [_point(fit, names.get(_id(fit), ""), writes=writes) for fit in fits]


def _id(fit: Fit) -> tuple[str, str]:
    return fit.candidate.model.id, fit.candidate.artifact.quant


def _point(fit: Fit, name: str, *, writes: bool) -> Point:
    label, speed = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}", fit.speed
    if not writes:
        return Point(name, label, speed.prefill_tok_s, speed.prefill_tok_s, speed.prefill_tok_s, fit.quality or 0)
    return Point(name, label, speed.decode_tok_s, speed.decode_low_tok_s, speed.decode_high_tok_s, fit.quality or 0)


def drawn(shown: Sequence[Point], floor: float) -> Iterator[str]:
    """At most 80 columns; speed on a logarithmic scale, quality upwards, a name beside each pick."""
    slowest = min([dot.speed for dot in shown] + ([floor] if floor else [])) / SPREAD
    fastest = max(dot.speed for dot in shown) * SPREAD
    best, worst = max(dot.quality for dot in shown), min(dot.quality for dot in shown)
    span = log10(fastest / slowest)
    rows = [[" "] * COLUMNS for _ in range(ROWS)]

    def column(speed: float) -> int:
        return min(COLUMNS - 1, round((COLUMNS - 1) * log10(speed / slowest) / span))

    if floor:
        for line in rows:
            line[column(floor)] = FLOOR
    places = []
    for dot in reversed(shown):
        row = 0 if best == worst else round((ROWS - 1) * (best - dot.quality) / (best - worst))
        places.append((dot, rows[row], column(dot.speed)))
        rows[row][column(dot.speed)] = PICKED if dot.name else OTHER
    for dot, line, at in places:
        for begin in (at + 2, at - 1 - len(dot.name)):  # the name on the right, or on the left if something is there
            end = begin + len(dot.name)
            if dot.name and begin >= 0 and end <= COLUMNS and not set(line[begin:end]) - {" ", FLOOR}:
                line[begin:end] = dot.name
                break
    for number, line in enumerate(rows):
        quality = best - (best - worst) * number / (ROWS - 1)
        axis = f"{quality:.0f}" if number in (0, ROWS - 1) or number == ROWS // 2 else ""
        yield f" {axis:>4} │{''.join(line).rstrip()}"
    scale = f"{units.tok_s(slowest)} tok/s"
    middle = f"quality ↑ · speed →{f' · {FLOOR} floor {units.tok_s(floor)}' if floor else ''}"
    last = f"{units.tok_s(fastest)} tok/s"
    yield f"      └{'─' * COLUMNS}"
    yield f"       {scale}{middle.center(COLUMNS - len(scale) - len(last))}{last}"


def picture(title: str, shown: Sequence[Point], floor: float) -> str:
    """As a file of scalable vector graphics: each point with the range of its speed and its name."""
    from llmctl.cli import chart

    speeds = [value for dot in shown for value in (dot.low, dot.high)] + ([floor] if floor else [])
    qualities = [dot.quality for dot in shown]
    across = chart.Axis(min(speeds) / SPREAD, max(speeds) * SPREAD, LEFT, RIGHT, logarithmic=True)
    up = chart.Axis(min(qualities) - 5, max(qualities) + 5, BOTTOM, TOP)
    parts = [*chart.grid(across, up, "tokens per second", "quality index")]
    if floor:
        at = across.at(floor)
        parts += [chart.path([(at, BOTTOM), (at, TOP)], "#555", dashed=True)]
        parts += [chart.text(at + 4, TOP + 12, f"floor {units.tok_s(floor)}")]
    steps = [(across.at(dot.speed), up.at(dot.quality)) for dot in shown]
    parts.append(chart.path(steps, "#999"))
    below = TOP
    for dot, (x, y) in zip(shown, steps, strict=True):
        colour = chart.COLOURS[0 if dot.name else 4]
        parts.append(chart.path([(across.at(dot.low), y), (across.at(dot.high), y)], colour))
        words = f"{dot.label}: quality {dot.quality:.0f}, {units.tok_s(dot.speed)} tok/s"
        words += f" ({units.tok_s(dot.low)} to {units.tok_s(dot.high)})"
        parts.append(chart.dot(x, y, colour, words, 5.5 if dot.name else 4))
        below = max(below, round(y))  # names stand beside the picture, each at its height or below the last
        parts.append(chart.path([(x, y), (RIGHT + 6, below)], "#ddd"))
        parts.append(chart.text(RIGHT + 10, below + 4, f"{dot.name + ': ' if dot.name else ''}{dot.label}"))
        below += 16
    return chart.page(WIDTH, max(HEIGHT, below + 20), title, parts)
