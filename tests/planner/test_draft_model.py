"""A draft model beside the one that answers: memory, and when it pays."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner.draft_model import EXPECTED_RIGHT, LEAST_GAIN, best, machine_beside, right_share, with_draft
from llmctl.types.plan import CPU, DeviceMemory, Fit, MemoryPlan
from llmctl.types.speed_model import SpeedModel
from tests.fakes.fits import fit_for
from tests.planner.machines import desktop
from tests.planner.test_drafts import RUN

GIB = 1 << 30


def fit(token_s: float, prompt_s: float, *rows: DeviceMemory) -> Fit:
    memory = MemoryPlan(rows, sum(row.total_bytes for row in rows if row.device == CPU), 5, 7)
    return replace(
        fit_for(None), memory=memory, speed_model=SpeedModel(token_s, 0.0, 0.0, prompt_s, 0.0, 0.0, None, 512)
    )


def row(device: str, total: int) -> DeviceMemory:
    return DeviceMemory(device, total - 6, 1, 2, 0, 3, total, 100 * GIB)


@pytest.mark.parametrize(
    ("prompt_s", "draft_s", "count", "gain"),
    [
        (0.001, 0.01, 3, 1.9487),  # a GPU, a model ten times as fast
        (0.001, 0.03, 3, 1.3332),
        (0.03, 0.01, 3, 1.6887),  # a processor that computes three tokens in the time of one
        (0.05, 0.05, 1, 1.1333),
        (0.1, 0.01, 1, 0.8095),
    ],
)
def test_the_best_draft_by_the_speed_of_both(prompt_s: float, draft_s: float, count: int, gain: float) -> None:
    tokens, faster = best(fit(0.1, prompt_s), fit(draft_s, 0.001), 100, EXPECTED_RIGHT)
    assert tokens == count
    assert faster == pytest.approx(gain, abs=1e-3)
    assert (faster >= LEAST_GAIN) is (gain > 1.15)


def test_what_came_of_drafts_so_far_counts() -> None:
    name = fit(0.1, 0.01).candidate.model.id
    runs = [replace(RUN, model=name, draft=name, accepted_tokens=90, compared_tokens=300, drafted_tokens=900)]
    others = [replace(runs[0], draft=None), replace(runs[0], model="another"), replace(runs[0], draft="another")]
    assert right_share(fit(0.1, 0.01), fit(0.01, 0.001), others) == pytest.approx(EXPECTED_RIGHT)
    assert right_share(fit(0.1, 0.01), fit(0.01, 0.001), [*runs, *others]) == pytest.approx((140 + 90) / 500)


def test_both_take_memory() -> None:
    machine = desktop()
    (card,) = machine.accelerators
    one, other = fit(0.1, 0.01, row(CPU, 3 * GIB), row(card.id, 4 * GIB)), fit(0.01, 0.001, row(CPU, GIB))
    beside = machine_beside(machine, one)
    assert beside.memory.available_bytes == machine.memory.available_bytes - 3 * GIB
    assert (beside.accelerators[0].memory_free_bytes or 0) == (card.memory_free_bytes or 0) - 4 * GIB
    made = with_draft(one, other, 100, (), is_asked_for=True)
    assert made.draft is not None and made.draft.is_asked_for and made.draft.candidate == other.candidate
    assert [part.total_bytes for part in made.memory.by_device] == [4 * GIB, 4 * GIB]
    assert (made.memory.must_fit_bytes, made.memory.mapped_bytes, made.memory.touched_bytes) == (4 * GIB, 10, 14)
    for part in made.memory.by_device:
        parts = part.weights_bytes, part.repacked_bytes, part.kv_bytes, part.state_bytes, part.compute_bytes
        assert sum(parts) == part.total_bytes
