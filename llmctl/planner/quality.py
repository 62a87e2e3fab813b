"""Computes how good a model is at a task: one index from published results, less what quantization costs.

Method. A benchmark is taken to measure ability on a scale of its own: the logit of the share of the way from its worst
score to its best is a straight line over ability, fitted once over all models of the catalogue
(``profiles/benchmarks.toml``, ``tests/bench/fit_quality.py``). Each result so becomes an estimate of the model's
ability. The index is their mean, each weighted

- by how closely its benchmark follows its line (the inverse of the squared spread);
- by what its area is worth for the task (``evidence`` in ``profiles/tasks.toml``: LiveCodeBench, HumanEval, SWE-bench
  and Aider for code; GPQA, AIME and MATH for reasoning; EuroEval's European rank for translation, and whenever a
  language is asked for; MMMU and DocVQA for vision; MTEB for embedding). Other areas stand in, at less weight;
- less, if the model's own publisher reports it (``doubt``), and less still if the benchmark's publisher only estimated
  it (``doubt_estimated``): these run high for old and small models.

To them comes what models of its size and date reach on the whole (``usual``), as one more, uncertain result: a single
good score of a small model is more often luck than a wonder. It is the prior of any regression to the mean.
A model that nobody ran in an area of the task's own (the one that weighs most, or OWN of that), so that other areas or
an estimate must stand in, is put at the low end of its range (``Grade.cautious``).

A model about which nothing was published is bounded by its relatives, the models of the same family: its index is that
of the nearest in size, moved by what a difference in size is worth over the whole catalogue, and never above a larger
relative or below a smaller one. Then it is put at the low end of its range, and said to be an estimate. A
distillation is no relative of what is none, nor the reverse. A model without relatives has no index.

Thinking and plain results are never mixed unmarked: for an answer without thinking, a result with thinking counts as
an estimate that is ``thinking_gain`` too high and less certain, and the other way round; ``Grade.converted`` counts
them. Versions of the Artificial Analysis index are benchmarks of their own, only those listed are read. Embedding and
reranking have scales that nothing else is on. The index is 50 for the mean model of the catalogue and 18 points per
standard deviation; a point or two is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import hypot, log, log2

from msgspec.structs import replace

from llmctl.catalogue.knowledge import BenchmarkScale, Quality, QuantLoss
from llmctl.types.grade import Grade, GradeBasis
from llmctl.types.model import Artifact, Evidence, Model, Relative, Thinking

DIGITS = 0  # points after the decimal one: what rounds to the same whole point is equally good
MULTILINGUAL = "multilingual"
LANGUAGE_WEIGHT = 3  # of multilingual results where a language is asked for, as much as a task's own area
OWN = 2 / 3
ON_OTHER_SCALES = frozenset({"embedding", "reranking"})
USUAL_SIZE, USUAL_DATE = 8e9, date(2025, 1, 1)
RELATIVES_SPREAD = 0.3  # of ability, between neighbours of one family after their sizes are allowed for; our judgement


def weights_of(evidence: Mapping[str, float], language: bool) -> Mapping[str, float]:
    """The weight of each area for a task, with or without a language that was asked for."""
    if not language or evidence.keys() <= ON_OTHER_SCALES:
        return evidence
    return {**evidence, MULTILINGUAL: max(LANGUAGE_WEIGHT, evidence.get(MULTILINGUAL, 0.0))}


def grade(model: Model, thinking: bool, areas: Mapping[str, float], table: Quality) -> Grade | None:
    """The unquantized model, answering with or without thinking; None if nothing usable was published of it or its
    relatives. ``areas`` are the weights of ``weights_of``."""
    own = _estimate(model, thinking, areas, table)
    if own is not None:
        middle, spread, results, converted, cautious = own
        return Grade(
            index=_index(middle, table),
            spread=spread * table.index_per_ability,
            basis=GradeBasis.PUBLISHED,
            results=results,
            converted=converted,
            cautious=cautious,
        )
    return _by_relatives(model, thinking, areas, table)


def _estimate(
    model: Model | Relative, thinking: bool, areas: Mapping[str, float], table: Quality
) -> tuple[float, float, int, int, bool] | None:
    """``_ability`` and whether it was lowered to the low end of its range, as no result is for the task itself."""
    estimate = _ability(model.evidence, model.thinking, thinking, _prior(model, areas, table), areas, table)
    if estimate is None:
        return None
    middle, spread, results, converted = estimate
    cautious = not any(_own_area(result, areas, table) for result in model.evidence)
    return middle - (spread if cautious else 0.0), spread, results, converted, cautious


def _own_area(result: Evidence, areas: Mapping[str, float], table: Quality) -> bool:
    benchmark = table.benchmarks.get(result.benchmark)
    return (
        benchmark is not None and not result.estimated and areas.get(benchmark.area, 0.0) >= OWN * max(areas.values())
    )


def loss(model: Model, artifact: Artifact, quants: QuantLoss) -> float:
    """Index points that quantization costs: by the label's divergence, more for small models (see ``quants.toml``).

    An unknown label costs as much as the listed one with the nearest bits per weight.
    """
    if artifact.quant in quants.native:
        return 0.0
    quant = quants.quants.get(artifact.quant)
    parameters = model.parameters
    if quant is None:
        bits = 8 * artifact.weights.total_bytes / parameters if parameters else 4.5
        quant = min(quants.quants.values(), key=lambda listed: abs(listed.bits - bits))
    size = (quants.reference_parameters / parameters) ** quants.size_exponent if parameters else 1.0
    return quant.divergence * quants.index_per_divergence * min(size, quants.most_per_size)


def rounded_loss(model: Model, artifact: Artifact, quants: QuantLoss) -> float:
    """The loss to DIGITS digits; 0 below ``negligible``, so that files that are equally good have equal grades."""
    return _rounded(loss(model, artifact, quants), quants)


def quantized(whole: Grade | None, cost: float, quants: QuantLoss) -> Grade | None:
    """The grade less ``cost`` index points, to DIGITS digits; costs below ``negligible`` are not subtracted."""
    if whole is None:
        return None
    return replace(whole, index=round(whole.index, DIGITS) - _rounded(cost, quants), lost=cost)


def _rounded(cost: float, quants: QuantLoss) -> float:
    return round(cost, DIGITS) if cost >= quants.negligible else 0.0


def ability(benchmark: BenchmarkScale, score: float) -> float:
    """The ability that one score stands for."""
    return (logit(benchmark, score) - benchmark.intercept) / benchmark.slope


def logit(benchmark: BenchmarkScale, score: float) -> float:
    share = (score - benchmark.worst) / (benchmark.best - benchmark.worst)
    share = min(max(share, 0.02), 0.985)  # a few points around chance, or short of all, say nothing more
    return log(share / (1 - share))


def usual(size: float, released: str | None, table: Quality) -> float:
    """The ability to expect of a model of that size (parameters) and release date."""
    years = (date.fromisoformat(_day(released)) - USUAL_DATE).days / 365.25 if released else 0.0
    return table.usual + table.per_doubling * log2(size / USUAL_SIZE) + table.per_year * years


def _day(released: str) -> str:
    """``released`` as a day: the middle of the month or year where no day is given."""
    return released + {4: "-07-01", 7: "-15"}.get(len(released), "")


def _prior(model: Model | Relative, areas: Mapping[str, float], table: Quality) -> tuple[float, float] | None:
    if model.size is None or areas.keys() <= ON_OTHER_SCALES:
        return None
    spread = table.usual_spread if model.released else hypot(table.usual_spread, table.per_year)
    return usual(model.size, model.released, table), spread


def _ability(
    evidence: Iterable[Evidence],
    kind: Thinking,
    thinking: bool,
    prior: tuple[float, float] | None,
    areas: Mapping[str, float],
    table: Quality,
) -> tuple[float, float, int, int] | None:
    """Ability, its spread, how many results it is made of and how many of these are of the other mode."""
    weights = estimates = 0.0
    results = converted = 0
    for result in evidence:
        benchmark = table.benchmarks.get(result.benchmark)
        weight = areas.get(benchmark.area, 0.0) if benchmark is not None else 0.0
        if benchmark is None or weight <= 0:
            continue
        spread = benchmark.spread / benchmark.slope
        spread *= table.doubt_estimated if result.estimated else table.doubt if result.self_reported else 1
        estimate = ability(benchmark, result.score)
        if result.thinking != thinking and kind is not Thinking.NEVER:
            estimate += table.thinking_gain if thinking else -table.thinking_gain
            spread = hypot(spread, table.thinking_gain_spread)
            converted += 1
        results += 1
        weights += weight / spread**2
        estimates += weight * estimate / spread**2
    if not results:
        return None
    if prior is not None:
        weights += 1 / prior[1] ** 2
        estimates += prior[0] / prior[1] ** 2
    return estimates / weights, weights**-0.5, results, converted


def _by_relatives(model: Model, thinking: bool, areas: Mapping[str, float], table: Quality) -> Grade | None:
    size = model.size
    if size is None or areas.keys() <= ON_OTHER_SCALES:
        return None
    tested = [
        (relative, estimate)
        for relative in model.relatives
        if (estimate := _of_relative(relative, thinking, areas, table)) is not None
    ]
    if not tested:
        return None
    nearest, estimate = min(tested, key=lambda pair: (abs(log2(size / pair[0].size)), pair[0].name))
    distance = log2(size / nearest.size)
    middle = estimate + table.per_doubling * distance
    spread = hypot(RELATIVES_SPREAD, table.per_doubling * distance)
    highest = min((estimate for relative, estimate in tested if relative.size >= size), default=middle)
    lowest = max((estimate for relative, estimate in tested if relative.size <= size), default=middle - spread)
    cautious = min(max(middle - spread, min(lowest, highest)), highest)
    return Grade(
        index=_index(cautious, table),
        spread=spread * table.index_per_ability,
        basis=GradeBasis.RELATIVES,
        cautious=True,
        relatives=_neighbours(size, [relative for relative, _ in tested]),
    )


def _of_relative(relative: Relative, thinking: bool, areas: Mapping[str, float], table: Quality) -> float | None:
    thinks = (thinking and relative.thinking is not Thinking.NEVER) or relative.thinking is Thinking.ALWAYS
    estimate = _estimate(relative, thinks, areas, table)
    return None if estimate is None else estimate[0]


def _neighbours(size: float, relatives: Sequence[Relative]) -> tuple[str, ...]:
    """The next smaller and the next larger one."""
    below = [relative for relative in relatives if relative.size <= size][-1:]
    above = [relative for relative in relatives if relative.size > size][:1]
    return tuple(relative.name for relative in (*below, *above))


def _index(ability_estimate: float, table: Quality) -> float:
    return table.index_zero + table.index_per_ability * ability_estimate
