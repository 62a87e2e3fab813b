"""How long the weights' products take for several answers at once, one token of each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.memory import bits
from llmctl.planner.rates import BatchSteps, DeviceRates
from llmctl.types.model import Shape

WHOLE_BATCH = 512  # vectors at once that the rates of prefill are for
WIDE_BITS = 8


def batch_s(rates: DeviceRates, type_bytes: Mapping[str, float], answers: float, constants: SpeedConstants) -> float:
    """Seconds of the products of ``answers`` vectors with these weights, bytes by type: as measured with a few vectors
    and with a whole batch. Where a few weren't measured, each but the first costs ``further_answer`` of a step, or what
    it costs in a whole batch if that is more."""
    return sum(_batch_s(rates, {name: size}, answers, constants) for name, size in type_bytes.items())


def _batch_s(rates: DeviceRates, type_bytes: Mapping[str, float], answers: float, constants: SpeedConstants) -> float:
    stream_s, whole_s = rates.streaming_s(type_bytes), WHOLE_BATCH * rates.product_s(type_bytes)
    if not stream_s:
        return 0.0
    steps = _steps_like(rates, next(iter(type_bytes)))
    if not steps:
        return max(stream_s * (1 + constants.further_answer * (answers - 1)), whole_s * answers / WHOLE_BATCH)
    points = [(1.0, stream_s), *((count, stream_s * factor) for count, factor in steps.items())]
    points.append((WHOLE_BATCH, max(whole_s, points[-1][1])))
    return _at(points, answers)


def _steps_like(rates: DeviceRates, weight_type: str) -> BatchSteps:
    """Those of the weight type, else of the measured one on the same side of WIDE_BITS: kernels unpack what has fewer
    bits for each vector anew."""
    if weight_type in rates.batch_steps:
        return rates.batch_steps[weight_type]
    wide = bits(weight_type) >= WIDE_BITS
    return next((steps for name, steps in rates.batch_steps.items() if (bits(name) >= WIDE_BITS) == wide), {})


def routed_batch_s(
    rates: DeviceRates, shape: Shape, type_bytes: Mapping[str, float], answers: int, constants: SpeedConstants
) -> float:
    """The same for routed experts, ``type_bytes`` of which one token uses. Each answer's token chooses its own, so more
    of them are read, each for fewer vectors; on processors each token's products are computed for themselves."""
    if rates.batch_steps:
        return answers * rates.streaming_s(type_bytes)
    if not shape.n_expert or not shape.n_expert_used:
        return batch_s(rates, type_bytes, answers, constants)
    share = shape.n_expert_used / shape.n_expert
    read = (1 - (1 - share) ** answers) / share  # times as many as for one token
    return read * batch_s(rates, type_bytes, answers / read, constants)


def _at(points: list[tuple[float, float]], count: float) -> float:
    for (fewer, low), (more, high) in pairwise(points):
        if count <= more:
            return low + (high - low) * (count - fewer) / (more - fewer)
    return points[-1][1] * count / points[-1][0]
