"""How far a machine's speed is, at another time, from the one that was measured.

A virtual machine shares its cores, caches and memory with others that nothing within it shows. Where its kernels were
measured once, the range "drift" in ``speed.toml`` says how far they may be from that at another time. Each further time
that they were measured says how far they were indeed; and with n of them, the next one is the fastest in one of n + 1
cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmctl.catalogue.speed_constants import Range, SpeedConstants
from llmctl.types.kernels import MeasuredTime
from llmctl.types.machine import Machine

NONE = Range(low=1.0, high=1.0, prefill_low=1.0, prefill_high=1.0)
ENOUGH = 4  # times that its kernels were measured, for their speeds alone to tell how slow it gets


def drifts(machine: Machine) -> bool:
    """Whether the speed was measured of a machine that shares its hardware with others."""
    return machine.virtual_machine is not None and machine.kernels is not None


def drift(machine: Machine, constants: SpeedConstants) -> Range:
    """Factors on the speed that was measured, between which that of another time should lie; all 1 for a machine that
    shares its hardware with nobody."""
    if machine.kernels is None or not drifts(machine):
        return NONE
    times, assumed = machine.kernels.times, constants.ranges["drift"]
    return Range(
        low=_slowest(assumed.low, [time.decode for time in times]),
        high=_fastest(assumed.high, times),
        prefill_low=_slowest(assumed.prefill_low, [time.prefill for time in times]),
        prefill_high=_fastest(assumed.prefill_high, times),
    )


def widened(factors: Range, drift: Range) -> Range:
    """``factors`` on a prediction for a machine whose speed has a range of its own: errors of both kinds are
    independent, so their logarithms add up as squares."""
    return Range(
        low=1 / _both(factors.low, drift.low),
        high=_both(factors.high, drift.high),
        prefill_low=1 / _both(factors.prefill_low, drift.prefill_low),
        prefill_high=_both(factors.prefill_high, drift.prefill_high),
    )


def _slowest(assumed: float, shares: Sequence[float]) -> float:
    further = max(0, len(shares) - 1)
    untold = max(0.0, 1 - further / (ENOUGH - 1))
    return min([1 - (1 - assumed) * untold, *shares])


def _fastest(assumed: float, times: Sequence[MeasuredTime]) -> float:
    return 1 + (assumed - 1) * 2 / (1 + max(1, len(times)))


def _both(first: float, second: float) -> float:
    """How many times too much or too little both together make it."""
    return math.exp(math.hypot(math.log(first), math.log(second)))
