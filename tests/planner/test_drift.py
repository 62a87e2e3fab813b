"""The range of a virtual machine: by default, and from the times at which its kernels were measured."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.drift import NONE, drift, widened
from llmctl.types.kernels import MeasuredTime
from llmctl.types.machine import Machine
from llmctl.types.past import PastRun
from llmctl.types.plan import Fit, Plan, Want
from tests.planner.machines import EPYC, knowledge, made

CONSTANTS = knowledge().speed
ASSUMED = CONSTANTS.ranges["drift"]


def virtual(*shares: float) -> Machine:
    assert EPYC.kernels is not None
    times = tuple(MeasuredTime("2026-11-30T10:00:00Z", share, share) for share in shares)
    return replace(EPYC, virtual_machine="kvm", kernels=replace(EPYC.kernels, times=times))


@pytest.mark.parametrize(
    ("shares", "low", "high"),
    [
        ((), ASSUMED.low, ASSUMED.high),
        ((1.0,), ASSUMED.low, ASSUMED.high),
        ((0.6, 1.0), 0.6, 1 + (ASSUMED.high - 1) * 2 / 3),
        ((1.0, 0.97, 0.95, 0.98), 0.95, 1 + (ASSUMED.high - 1) * 2 / 5),
    ],
)
def test_what_was_seen_takes_the_place_of_what_is_assumed(shares: tuple[float, ...], low: float, high: float) -> None:
    factors = drift(virtual(*shares), CONSTANTS)
    assert (factors.low, factors.high) == pytest.approx((low, high))


def test_hardware_of_ones_own_does_not_drift() -> None:
    assert drift(EPYC, CONSTANTS) == NONE == drift(replace(virtual(1.0), kernels=None), CONSTANTS)


@pytest.mark.parametrize("name", ["calibrated", "completed"])
def test_a_range_is_as_wide_as_both_and_not_as_both_together(name: str) -> None:
    of_kind, both = CONSTANTS.ranges[name], widened(CONSTANTS.ranges[name], ASSUMED)
    assert widened(of_kind, NONE) == of_kind
    assert widened(NONE, ASSUMED).low == pytest.approx(ASSUMED.low)
    assert of_kind.low * ASSUMED.low < both.low < min(of_kind.low, ASSUMED.low)
    assert max(of_kind.high, ASSUMED.high) < both.high < of_kind.high * ASSUMED.high


def planned(machine: Machine, runs: int = 0) -> Fit:
    want = Want(explicit=True)
    answer = plan(machine, [made()], want, knowledge())
    assert isinstance(answer, Plan)
    if runs:
        answer = plan(machine, [made()], want, knowledge(), past=[ran(answer.choice)] * runs)
    assert isinstance(answer, Plan)
    return answer.choice


def ran(fit: Fit) -> PastRun:
    """A run of the same file with the same settings, exactly as fast as predicted."""
    return PastRun(
        model=fit.candidate.model.id,
        quant=fit.candidate.artifact.quant,
        file_bytes=fit.candidate.artifact.source.bytes,
        sha256=None,
        kv_type=fit.configuration.kv_type,
        gpu_layers=0,
        repack=fit.configuration.repack,
        flash_attention=fit.configuration.flash_attention,
        threads=fit.threads,
        prefill_threads=fit.prefill_threads,
        decode=1.0,
        prefill=1.0,
        load_s=1.0,
        depth=100,
        read_tokens=100,
        modelled=fit.modelled,
    )


@pytest.mark.parametrize(("runs", "narrow"), [(0, False), (1, False), (4, False), (5, True)])
def test_a_few_runs_do_not_make_the_range_narrower_than_the_drift(runs: int, narrow: bool) -> None:
    def low(machine: Machine) -> float:
        speed = planned(machine, runs).speed
        return speed.decode_low_tok_s / speed.decode_tok_s

    assert (low(virtual(1.0)) > ASSUMED.low + 0.01) == narrow
    assert low(EPYC) > low(virtual(1.0)) or narrow
