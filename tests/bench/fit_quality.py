"""Fits the benchmarks' lines of ``profiles/benchmarks.toml`` to the published results in ``profiles/models``.

    python tests/bench/fit_quality.py

One ability per model and mode (plain or thinking), one line per benchmark: logit of the share of points above chance
= intercept + slope x ability. Alternating least squares, benchmarks weighted by how closely they follow their line;
abilities are scaled to mean 0 and standard deviation 1 over all models. Prints TOML and the abilities.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from math import log

from llmctl import catalogue, paths

CHANCE_AND_TOP = {
    "EuroEval life-in-the-uk": (0.25, 100),  # four options
    "EuroEval HellaSwag": (0.25, 100),  # four options
    "Artificial Analysis Intelligence Index v4.3": (0.0, 60),  # the best models of 2026-09 stand near 60
    "MMLU-Pro": (0.1, 100),  # ten options
    "GPQA Diamond": (0.25, 100),  # four options
    "LiveCodeBench v6": (0.0, 100),
}
ROUNDS = 400
LEAST_SPREAD = 0.25
PRIOR = 1 / 1.5**2

Key = tuple[str, bool]


def logit(benchmark: str, score: float) -> float:
    chance, top = CHANCE_AND_TOP[benchmark]
    share = min(max((score / top - chance) / (1 - chance), 0.02), 0.985)
    return log(share / (1 - share))


def results() -> dict[Key, dict[str, float]]:
    found: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for model in catalogue.load(paths.profiles_dir() / "models").models:
        for one in model.evidence:
            if one.benchmark in CHANCE_AND_TOP:
                found[model.id, one.thinking][one.benchmark].append(logit(one.benchmark, one.score))
    return {key: {name: statistics.mean(values) for name, values in by.items()} for key, by in found.items()}


def main() -> None:
    seen = results()
    ability = {key: statistics.mean(by.values()) for key, by in seen.items()}
    line = dict.fromkeys(CHANCE_AND_TOP, (0.0, 1.0, 0.5))
    for _ in range(ROUNDS):
        for name in line:
            points = [(ability[key], by[name]) for key, by in seen.items() if name in by]
            slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
            spread = statistics.pstdev([y - intercept - slope * x for x, y in points])
            line[name] = intercept, max(slope, 0.1), max(spread, LEAST_SPREAD)
        for key, by in seen.items():
            weights = {name: (line[name][1] / line[name][2]) ** 2 for name in by}
            estimates = {name: (by[name] - line[name][0]) / line[name][1] for name in by}
            ability[key] = sum(weights[n] * estimates[n] for n in by) / (sum(weights.values()) + PRIOR)
        mean, deviation = statistics.mean(ability.values()), statistics.pstdev(ability.values())
        ability = {key: (value - mean) / deviation for key, value in ability.items()}
    for name, (intercept, slope, spread) in line.items():
        count = sum(name in by for by in seen.values())
        chance, top = CHANCE_AND_TOP[name]
        print(f'[benchmark."{name}"]  # {count} results, {spread / slope:.2f} of ability')
        print(f"chance = {chance}\ntop = {top}")
        print(f"intercept = {intercept:.2f}\nslope = {slope:.2f}\nspread = {spread:.2f}")
    for key, value in sorted(ability.items(), key=lambda item: -item[1]):
        print(f"# {value:6.2f}  {key[0]}{' thinking' if key[1] else ''}  ({len(seen[key])})")
    gains = [
        ability[name, True] - ability[name, False]
        for name, thinking in ability
        if thinking and (name, False) in ability
    ]
    print(f"# thinking adds {statistics.median(gains):.2f} (median of {len(gains)} models with both)")


if __name__ == "__main__":
    main()
