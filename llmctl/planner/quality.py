"""How good a model is said to be: one index out of what was published, less what quantization costs.

Method. Every benchmark is taken to measure the same ability, each on its own scale: the logit of the share of points
above chance is a straight line over ability, fitted once over all models of the catalogue
(``profiles/benchmarks.toml``, ``tests/bench/fit_quality.py``). Each result of a model so becomes an estimate of its
ability, and the model's is their mean, weighted by how closely the benchmark follows its line; self-reported and
estimated results weigh less. It is one index for all tasks.

Thinking and plain results are never mixed unmarked: for an answer without thinking, a result with thinking counts as
an estimate that is ``thinking_gain`` too high and less certain, and the other way round. The index is 50 for the mean
model of the catalogue and 18 points per standard deviation; a point or two is no difference.

Models without a result have no index; nothing is guessed from their size.
"""

from __future__ import annotations

from math import hypot, log

from llmctl.catalogue.knowledge import Benchmark, Quality, QuantLoss
from llmctl.types.model import Artifact, Model, Thinking

DIGITS = 1  # what is equal to this many digits is equally good


def index(model: Model, thinking: bool, quality: Quality) -> float | None:
    """The index of the unquantized model, answering with or without thinking; None if nothing usable was published."""
    weights = estimates = 0.0
    for one in model.evidence:
        benchmark = quality.benchmarks.get(one.benchmark)
        if benchmark is None:
            continue
        spread = benchmark.spread / benchmark.slope
        if one.self_reported or one.estimated:
            spread *= quality.doubt
        ability = _ability(benchmark, one.score)
        if one.thinking != thinking and model.thinking is not Thinking.NEVER:
            ability += quality.thinking_gain if thinking else -quality.thinking_gain
            spread = hypot(spread, quality.thinking_gain_spread)
        weights += 1 / spread**2
        estimates += ability / spread**2
    return quality.index_zero + quality.index_per_ability * estimates / weights if weights else None


def loss(model: Model, artifact: Artifact, quants: QuantLoss) -> float:
    """Index points that quantization costs: by the label's divergence, more for small models (see ``quants.toml``).

    An unknown label costs what the listed one with the nearest bits per weight does.
    """
    if artifact.quant in quants.native:
        return 0.0
    known = quants.quants.get(artifact.quant)
    parameters = model.parameters
    if known is None:
        bits = 8 * artifact.weights.total_bytes / parameters if parameters else 4.5
        known = min(quants.quants.values(), key=lambda one: abs(one.bits - bits))
    size = (quants.reference_parameters / parameters) ** quants.size_exponent if parameters else 1.0
    return known.divergence * quants.index_per_divergence * min(size, quants.most_per_size)


def told_loss(model: Model, artifact: Artifact, quants: QuantLoss) -> float:
    """The loss, to DIGITS digits. One too small to tell is none: it would only hide that two files are equally good."""
    cost = loss(model, artifact, quants)
    return round(cost, DIGITS) if cost >= quants.negligible else 0.0


def quality(model: Model, artifact: Artifact, thinking: bool, table: Quality, quants: QuantLoss) -> float | None:
    """The index after the loss, to DIGITS digits."""
    whole, cost = index(model, thinking, table), loss(model, artifact, quants)
    return None if whole is None else round(whole - (cost if cost >= quants.negligible else 0.0), DIGITS)


def _ability(benchmark: Benchmark, score: float) -> float:
    share = (score / benchmark.top - benchmark.chance) / (1 - benchmark.chance)
    share = min(max(share, 0.02), 0.985)  # a few points around chance, or short of all, say nothing more
    return (log(share / (1 - share)) - benchmark.intercept) / benchmark.slope
