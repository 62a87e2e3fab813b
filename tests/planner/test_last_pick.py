"""A pick that was made before stays on the same machine, whatever was measured of it today."""

from __future__ import annotations

import functools

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.judge import NEAR, STAYS
from llmctl.types.machine import Machine
from llmctl.types.past import LastPick
from llmctl.types.plan import Plan, RejectionCode, Want
from tests.fakes.kernel_rates import scaled
from tests.planner.machines import EPYC, EPYC_KERNELS, GIB, everything, knowledge, made

NOISE = (0.85, 0.95, 1.1)  # of one measurement to the next on one machine
SLOWEST_THAT_STAYS = 1.02 * STAYS / NEAR


def measured(factor: float) -> Machine:
    """A machine whose kernels were measured to do so many times what they do on another day."""
    return replace(EPYC, kernels=scaled(EPYC_KERNELS, factor))


@functools.cache  # a search for a limit plans again with what another test planned with
def planned(machine: Machine, last: LastPick | None = None, want: Want | None = None) -> Plan:
    answer = plan(machine, everything(), want or Want(), knowledge(), last=last)
    assert isinstance(answer, Plan)
    return answer


def pick(answer: Plan) -> LastPick:
    chosen = answer.choice.candidate
    return LastPick(chosen.model.id, chosen.artifact.quant, "2026-11-29")


@pytest.mark.parametrize("task", ["chat", "code", "reasoning", "summarise"])
def test_it_stays_from_one_measurement_to_the_next(task: str) -> None:
    """At most one change, to a better one that a faster measurement shows to be fast enough; then it stays."""
    want = Want(task=task)
    last = pick(planned(measured(max(NOISE)), want=want))
    for factor in NOISE:
        today = planned(measured(factor), last, want)
        assert pick(today) == last, (factor, today.choice.reasons)
        assert not any("was picked" in reason for reason in today.choice.reasons)


@functools.cache
def a_pick_at_the_floor() -> float:
    """The factor, in hundredths, at which the choice of a quiet day is still fast enough without being the last pick,
    and isn't with a hundredth less."""
    usual = pick(planned(measured(1.0)))
    too_slow, enough = 40, 100
    assert pick(planned(measured(too_slow / 100))) != usual
    while enough - too_slow > 1:
        middle = (too_slow + enough) // 2
        if pick(planned(measured(middle / 100))) == usual:
            enough = middle
        else:
            too_slow = middle
    return enough / 100


def test_at_the_floor_it_stays_a_while_and_a_change_is_explained() -> None:
    floor = a_pick_at_the_floor()
    usual = pick(planned(measured(1.0)))
    assert pick(planned(measured(floor * 0.97))) != usual
    assert pick(planned(measured(floor * 0.97), usual)) == usual
    assert pick(planned(measured(floor * SLOWEST_THAT_STAYS), usual)) == usual
    much_slower = planned(measured(floor * 0.6), usual)
    assert pick(much_slower) != usual
    (why,) = (reason for reason in much_slower.choice.reasons if "was picked" in reason)
    assert f"{usual.quant} was picked on 2026-11-29; now it fits, but would" in why
    assert much_slower.picks["best"] == much_slower.choice


def test_a_first_measurement_of_a_virtual_machine_picks_what_others_of_it_would() -> None:
    floor = a_pick_at_the_floor()
    usual = pick(planned(measured(1.0)))
    assert pick(planned(measured(floor * SLOWEST_THAT_STAYS))) != usual
    assert pick(planned(replace(measured(floor * SLOWEST_THAT_STAYS), virtual_machine="kvm"))) == usual


def test_a_floor_that_was_asked_for_is_kept_to_the_letter() -> None:
    speed = planned(EPYC).choice.speed.decode_tok_s
    want = Want(min_tok_s=speed * 1.02)
    assert planned(EPYC, pick(planned(EPYC)), want).choice.speed.decode_tok_s >= speed * 1.02


def test_what_is_better_takes_its_place() -> None:
    first, better = made("first", mmlu_pro=50), made("better", mmlu_pro=70)
    last = LastPick("first", first.artifact.quant, "2026-11-29")
    answer = plan(EPYC, [first, better], Want(), knowledge(), last=last)
    assert isinstance(answer, Plan)
    assert answer.choice.candidate == better
    assert "was picked on 2026-11-29; now it fits, but better" in answer.choice.reasons[-1]


def test_what_has_no_room_now_is_said_to_have_none() -> None:
    usual = pick(planned(EPYC))
    busy = replace(EPYC, memory=replace(EPYC.memory, available_bytes=6 * GIB))
    answer = planned(busy, usual)
    row = next(row for row in answer.rejected if (row.model, row.quant) == (usual.model, usual.quant))
    assert row.code in (RejectionCode.MEMORY, RejectionCode.ROOM)
    assert answer.choice.reasons[-1].endswith(f"was picked on 2026-11-29; now it {row.reason}")


def test_what_is_no_candidate_any_more_is_said_to_be_gone() -> None:
    answer = planned(EPYC, LastPick("old", "Q4_0", "2026-11-29"))
    assert answer.choice.reasons[-1] == "old Q4_0 was picked on 2026-11-29; it is gone"
