"""Fits the benchmarks' lines of ``profiles/benchmarks.toml`` to the published results in ``profiles/models``.

    python tests/bench/fit_quality.py [--write]

One ability per model and mode (plain or thinking), one line per benchmark: logit of the share of the way from the
worst score to the best = intercept + slope x ability. Alternating least squares; a result weighs by how closely its
benchmark follows its line, a self-reported or estimated one less. Benchmarks with few results lean on what is usual: a
slope of USUAL_SLOPE and a spread of WIDE_SPREAD count as AS_MANY results. Abilities have mean 0 and standard deviation
1 over all models. Scales that nothing else is on (embedding) are left alone: their lines are set by hand.

What size and date are worth is the plane through the abilities of plain answers, its spread what remains. The gain of
thinking is the median over the models with results in both modes. Prints what goes into the file and the abilities;
``--write`` puts the numbers there.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections import defaultdict
from datetime import date
from math import log2

from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.catalogue.knowledge import BenchmarkScale, Quality
from llmctl.planner.quality import ON_OTHER_SCALES, USUAL_DATE, USUAL_SIZE, logit
from llmctl.types.model import Model

ROUNDS = 400
LEAST_SPREAD, WIDE_SPREAD, USUAL_SLOPE, AS_MANY = 0.45, 0.8, 1.5, 3
PRIOR = 1 / 1.5**2
FILE = paths.profiles_dir() / "benchmarks.toml"

Key = tuple[str, bool]
Results = dict[Key, dict[str, tuple[float, float]]]
"""Of each model and mode: by benchmark, the mean logit and how much it counts."""


def results(models: tuple[Model, ...], table: Quality) -> Results:
    found: dict[Key, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for model in models:
        for one in model.evidence:
            benchmark = table.benchmarks.get(one.benchmark)
            if benchmark is None or benchmark.area in ON_OTHER_SCALES:
                continue
            doubt = table.doubt_estimated if one.estimated else table.doubt if one.self_reported else 1
            found[model.id, one.thinking][one.benchmark].append((logit(benchmark, one.score), 1 / doubt**2))
    return {
        key: {name: (statistics.mean(y for y, _ in rows), max(w for _, w in rows)) for name, rows in by.items()}
        for key, by in found.items()
    }


def line(points: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Intercept, slope and spread through points (x, y, weight), with the usual ones counted in."""
    total = sum(w for _, _, w in points)
    mean_x, mean_y = (sum(point[i] * point[2] for point in points) / total for i in (0, 1))
    xx = sum(w * (x - mean_x) ** 2 for x, _, w in points)
    xy = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in points)
    ridge = AS_MANY * 0.25  # as results that lie half a standard deviation off the mean
    slope = max((xy + ridge * USUAL_SLOPE) / (xx + ridge), 0.3)
    intercept = mean_y - slope * mean_x
    off = sum(w * (y - intercept - slope * x) ** 2 for x, y, w in points)
    spread = ((off + AS_MANY * WIDE_SPREAD**2) / (total + AS_MANY)) ** 0.5
    return intercept, slope, max(spread, LEAST_SPREAD)


def abilities(seen: Results, lines: dict[str, tuple[float, float, float]]) -> dict[Key, float]:
    told = {}
    for key, by in seen.items():
        weights = {name: w * (lines[name][1] / lines[name][2]) ** 2 for name, (_, w) in by.items()}
        estimates = {name: (y - lines[name][0]) / lines[name][1] for name, (y, _) in by.items()}
        told[key] = sum(weights[n] * estimates[n] for n in by) / (sum(weights.values()) + PRIOR)
    mean, deviation = statistics.mean(told.values()), statistics.pstdev(told.values())
    return {key: (value - mean) / deviation for key, value in told.items()}


def plane(models: tuple[Model, ...], told: dict[Key, float]) -> tuple[float, float, float, float]:
    """``usual``, ``per_doubling``, ``per_year`` and ``usual_spread``: by normal equations."""
    rows = []
    for model in models:
        ability = told.get((model.id, False), told.get((model.id, True)))
        if ability is None or model.size is None or model.released is None or len(model.released) < 10:
            continue
        years = (date.fromisoformat(model.released) - USUAL_DATE).days / 365.25
        rows.append(((1.0, log2(model.size / USUAL_SIZE), years), ability))
    matrix = [
        [sum(x[i] * x[j] for x, _ in rows) for j in range(3)] + [sum(x[i] * y for x, y in rows)] for i in range(3)
    ]
    for i in range(3):
        matrix[i] = [value / matrix[i][i] for value in matrix[i]]
        for k in range(3):
            if k != i:
                matrix[k] = [a - matrix[k][i] * b for a, b in zip(matrix[k], matrix[i], strict=True)]
    a, b, c = (row[3] for row in matrix)
    off = [y - a * x[0] - b * x[1] - c * x[2] for x, y in rows]
    return a, b, c, statistics.pstdev(off)


def fitted(models: tuple[Model, ...], table: Quality) -> tuple[Quality, dict[Key, float], Results]:
    seen = results(models, table)
    names = {name for by in seen.values() for name in by}
    told = {key: statistics.mean(y for y, _ in by.values()) for key, by in seen.items()}
    lines: dict[str, tuple[float, float, float]] = {}
    for _ in range(ROUNDS):
        lines = {
            name: line([(told[key], *by[name]) for key, by in seen.items() if name in by]) for name in sorted(names)
        }
        told = abilities(seen, lines)
    benchmarks = {
        name: replace(one, intercept=lines[name][0], slope=lines[name][1], spread=lines[name][2])
        if name in lines
        else one
        for name, one in table.benchmarks.items()
    }
    gains = [told[name, True] - told[name, False] for name, mode in told if mode and (name, False) in told]
    usual, per_doubling, per_year, usual_spread = plane(models, told)
    made = replace(
        table,
        benchmarks=benchmarks,
        thinking_gain=statistics.median(gains),
        usual=usual,
        per_doubling=per_doubling,
        per_year=per_year,
        usual_spread=usual_spread,
    )
    return made, told, seen


def written(text: str, table: Quality) -> str:
    """The file with the fitted numbers in the place of its own."""

    def put(text: str, heading: str, values: dict[str, float]) -> str:
        head, found, rest = text.partition(heading)
        assert found, heading
        for name, value in values.items():
            rest, count = re.subn(rf"^{name} = .*$", f"{name} = {value:.2f}", rest, count=1, flags=re.MULTILINE)
            assert count, name
        return head + found + rest

    names = ("thinking_gain", "usual", "per_doubling", "per_year", "usual_spread")
    text = put(text, "[index]", {name: getattr(table, name) for name in names})
    for name, one in table.benchmarks.items():
        text = put(text, f'[benchmark."{name}"]', lines_of(one))
    return text


def lines_of(one: BenchmarkScale) -> dict[str, float]:
    return {"intercept": one.intercept, "slope": one.slope, "spread": one.spread}


def main() -> None:
    models = catalogue.load(paths.profiles_dir() / "models").models
    table = catalogue.load_knowledge(paths.profiles_dir()).quality
    table, told, seen = fitted(models, table)
    for name, one in table.benchmarks.items():
        count = sum(name in by for by in seen.values())
        print(f"{name:46} {one.area:13} {count:3} results, {one.spread / one.slope:.2f} of ability, {lines_of(one)}")
    for key, value in sorted(told.items(), key=lambda item: -item[1]):
        print(f"# {value:6.2f}  {key[0]}{' thinking' if key[1] else ''}  ({len(seen[key])})")
    print(f"thinking adds {table.thinking_gain:.2f}")
    print(f"usual {table.usual:.2f} + {table.per_doubling:.2f} per doubling + {table.per_year:.2f} a year")
    print(f"give or take {table.usual_spread:.2f}")
    if "--write" in sys.argv:
        FILE.write_text(written(FILE.read_text("utf-8"), table), "utf-8")


if __name__ == "__main__":
    main()
