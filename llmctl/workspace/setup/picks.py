"""The models that are offered, beside each other, and what each gives up for what it has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llmctl import units
from llmctl.types.plan import Fit, Plan

MOST = 3
CLEARLY = 1.5  # times as fast, or as small, for one that is offered beside the plan's picks
NOTICED = 1.2  # times as fast, or as large: below it nobody would choose by it


class Pick(Struct, frozen=True):
    """``names`` are those that the plan has for it: the best may be the fastest as well."""

    names: tuple[str, ...]
    fit: Fit
    gives_up: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[0]


def picks(plan: Plan) -> list[Pick]:
    """One for each file among the plan's picks; where that leaves fewer than three, also one that is smaller, and one
    that is faster than the only pick, if there are such."""
    names: dict[tuple[str, str], list[str]] = {}
    fits: dict[tuple[str, str], Fit] = {}
    for name, fit in _three(plan).items():
        key = (fit.candidate.model.id, fit.candidate.artifact.quant)
        names.setdefault(key, []).append(name)
        fits[key] = fit
    made = [(tuple(names[key]), fit) for key, fit in fits.items()]
    return [Pick(called, fit, tuple(_gives_up(fit, list(fits.values()))) or ("nothing",)) for called, fit in made]


def _three(plan: Plan) -> dict[str, Fit]:
    """The plan's picks by name, and what fills them up to MOST."""
    three = dict(plan.picks)
    fastest = max(fit.speed.decode_tok_s for fit in three.values())
    smallest = min(fit.download_bytes for fit in three.values())
    faster = [fit for fit in plan.alternatives if fit.speed.decode_tok_s >= CLEARLY * fastest]
    smaller = [fit for fit in plan.alternatives if fit.download_bytes * CLEARLY <= smallest]
    for name, fits in (("faster", faster), ("smaller", smaller)):
        models = {fit.candidate.model.id for fit in three.values()}
        files = {(fit.candidate.model.id, fit.candidate.artifact.quant) for fit in three.values()}
        others = [fit for fit in fits if fit.quality is not None and fit.candidate.model.id not in models]
        if others and len(files) < MOST and not (name == "faster" and "fastest" in three):
            three[name] = max(others, key=lambda fit: fit.quality or 0)
    return three


def _gives_up(fit: Fit, others: list[Fit]) -> Iterator[str]:
    qualities = [other.quality for other in others if other.quality is not None]
    if fit.quality is not None and (points := max(qualities) - fit.quality) >= 1:
        yield f"{points:.0f} points of quality"
    times = max(other.speed.decode_tok_s for other in others) / max(fit.speed.decode_tok_s, 1e-9)
    if times >= NOTICED:
        yield f"speed: another is {times:.1f} times as fast"
    smallest = min(other.download_bytes for other in others)
    if fit.download_bytes >= NOTICED * max(smallest, 1):
        yield f"{units.size(fit.download_bytes - smallest)} of disk"
