"""The models that are offered, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from llmctl import units
from llmctl.cli.models.show import SYMBOLS
from llmctl.cli.plan.screen import FOREMOST
from llmctl.types.model import Openness
from llmctl.workspace.setup.picks import Pick

LABELS = 11
GAP = 2
OPEN = {"weights_endmodel": "weights", "datasources_basemodel": "data", "trainingcode": "code"}
LEGEND = "open: ● open, ◐ in part, ○ closed."
NARROWEST, WIDEST = 18, 30


def side_by_side(picks: Sequence[Pick], columns: int) -> Iterator[str]:
    """A column for each; ``columns`` is how wide the screen is."""
    width = (columns - LABELS) // len(picks) - GAP
    if width < NARROWEST:
        for pick in picks:
            yield from side_by_side([pick], max(columns, LABELS + NARROWEST + GAP))
            yield ""
        return
    width = min(width, WIDEST)
    facts = [_facts(pick) for pick in picks]
    for label in facts[0]:
        cells = [_broken(fact[label], width) for fact in facts]
        for at, parts in enumerate(zip_longest(*cells, fillvalue="")):
            name = label if at == 0 else ""
            yield "".join([f"{name:<{LABELS}}", *(f"{part:<{width + GAP}}" for part in parts)]).rstrip()


def _facts(pick: Pick) -> dict[str, str]:
    fit, model = pick.fit, pick.fit.candidate.model
    speed = fit.speed
    low, high = units.tok_s(speed.decode_low_tok_s), units.tok_s(speed.decode_high_tok_s)
    return {
        "": " and ".join(pick.names),
        "model": f"{model.name} {fit.candidate.artifact.quant}",
        "download": _download(pick),
        "memory": units.size(sum(row.total_bytes for row in fit.memory.by_device)),
        "speed": f"{units.tok_s(speed.decode_tok_s)} tok/s ({low} to {high})",
        "quality": "unknown" if fit.quality is None else f"{fit.quality:.0f}",
        "open": _open(model.openness),
        "licence": (model.licence or "unknown").removeprefix("LicenseRef-"),
        "gives up": "; ".join(pick.gives_up),
    }


def _download(pick: Pick) -> str:
    if pick.fit.candidate.path is not None:
        return "is here"
    seconds = pick.fit.download_s
    return units.size(pick.fit.download_bytes) + ("" if seconds is None else f", ~{units.seconds(seconds)}")


def _open(openness: Openness | None) -> str:
    if openness is None:
        return "not graded"
    grades = ((OPEN[name], openness.grades.get(name)) for name in FOREMOST)
    return "  ".join(f"{words} {SYMBOLS[grade]}" for words, grade in grades if grade) or "not graded"


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
