"""Plans for several users: memory for all of their contexts, and what all answers have together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.batches import batch_s, routed_batch_s
from llmctl.planner.cpu_rates import CpuSettings, cpu_rates
from llmctl.types.kernels import BatchRate
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate, Shape
from llmctl.types.plan import Fit, NoFit, Plan, RejectionCode, Want
from llmctl.types.speed_model import SpeedModel
from tests.planner.machines import EPYC, LAPTOP, desktop, knowledge, mac, made, of

CONSTANTS = knowledge().speed
USUAL = CpuSettings(threads=2, prefill_threads=2, repack=True, flash_attention=False, kv_type="f16")


def fit(machine: Machine, users: int, candidate: Candidate | None = None, context: int = 4096) -> Fit:
    want = Want(context=context, explicit=True, users=users)
    answer = plan(machine, [candidate or made()], want, knowledge())
    assert isinstance(answer, Plan)
    return answer.choice


def test_each_user_has_a_context_of_their_own() -> None:
    alone, four = fit(EPYC, 1), fit(EPYC, 4)
    assert (alone.configuration.sequences, four.configuration.sequences) == (1, 4)
    assert four.context == alone.context == 4096
    (before,), (after,) = alone.memory.by_device, four.memory.by_device
    assert after.kv_bytes == 4 * before.kv_bytes
    too_many = plan(EPYC, [made()], Want(context=32768, explicit=True, users=64), knowledge())
    assert isinstance(too_many, NoFit) and too_many.nearest is not None
    assert too_many.nearest.code is RejectionCode.MEMORY


def test_one_user_has_nothing_together() -> None:
    speed = fit(EPYC, 1).speed
    assert (speed.together_tok_s, speed.together_low_tok_s, speed.together_high_tok_s) == (None, None, None)
    assert not any("at once have" in reason for reason in fit(EPYC, 1).reasons)


@pytest.mark.parametrize("name", ["qwen3.5-4b", "gpt-oss-20b", "smollm2-135m-instruct"])
@pytest.mark.parametrize("machine", [EPYC, replace(EPYC, kernels=None), LAPTOP, desktop(), desktop(4), mac()])
def test_more_answers_at_once_have_more_together_and_less_each(machine: Machine, name: str) -> None:
    candidate = of(name)[0]
    alone = fit(machine, 1, candidate, 2048).speed.decode_tok_s
    together = []
    for users in (2, 3, 4, 8):
        speed = fit(machine, users, candidate, 2048).speed
        assert speed.together_low_tok_s and speed.together_tok_s and speed.together_high_tok_s
        assert speed.decode_tok_s == pytest.approx(alone, rel=0.3), "other settings may fit, but it is one answer's"
        assert speed.together_low_tok_s < speed.together_tok_s < speed.together_high_tok_s
        together.append(speed.together_tok_s)
        assert speed.together_tok_s / users < 1.01 * speed.decode_tok_s
    assert together[0] > 0.95 * alone
    # their contexts may leave no room on a card for some experts
    assert all(more > 0.85 * fewer for fewer, more in pairwise(together))


def test_a_plan_says_what_all_have() -> None:
    choice = fit(EPYC, 4)
    (sentence,) = (reason for reason in choice.reasons if "at once have" in reason)
    assert sentence.startswith("4 answers at once have ") and sentence.endswith(" each")


def test_between_what_was_measured_it_is_told_in_proportion() -> None:
    model = SpeedModel(1.0, 0.001, 0, 0, 0, 0, None, 0, steps_s=((2, 1.5), (4, 2.5)))
    assert [model.together_tok_s(0, count) for count in (1, 2, 3, 4, 8)] == pytest.approx([1, 2 / 1.5, 1.5, 1.6, 1.6])
    assert model.together_tok_s(1000, 4) == pytest.approx(4 / (2.5 + 4))
    assert model.faster(2, 1).together_tok_s(0, 4) == pytest.approx(3.2)


def test_products_for_several_are_as_measured() -> None:
    """As measured, a type without measurements like one of as many bits, and never less than for one."""
    flop = 2 * 8 / 4.5 * 43.6e9  # of one vector, a second
    batches = tuple(
        BatchRate(name, name == "Q4_K", columns, 2, columns * rate / steps)
        for name, rate, measured in (("Q4_K", flop, {2: 1.8, 4: 3.5}), ("Q8_0", 2 * 8 / 8.5 * 42.4e9, {2: 0.9, 4: 2}))
        for columns, steps in measured.items()
    )
    assert EPYC.kernels is not None
    rates = cpu_rates(replace(EPYC, kernels=replace(EPYC.kernels, batches=batches)), USUAL, CONSTANTS)

    def steps(name: str, answers: float) -> float:
        return batch_s(rates, {name: 1e9}, answers, CONSTANTS) / batch_s(rates, {name: 1e9}, 1, CONSTANTS)

    assert [steps("Q4_K", count) for count in (1, 2, 3, 4)] == pytest.approx([1, 1.8, 2.65, 3.5])
    assert [steps("Q6_K", count) for count in (2, 4)] == pytest.approx([1.8, 3.5])
    assert [steps("Q8_0", count) for count in (2, 4)] == pytest.approx([1, 2])
    assert steps("F16", 4) == pytest.approx(2)
    whole = batch_s(rates, {"Q4_K": 1e9}, 512, CONSTANTS)
    assert whole == pytest.approx(512 * rates.product_s({"Q4_K": 1e9}))


def test_answers_choose_experts_of_their_own() -> None:
    shape = Shape("qwen3moe", 1, 64, 1, None, 0, 8192, kv_width=0, n_expert=8, n_expert_used=2)
    on_processor = cpu_rates(EPYC, USUAL, CONSTANTS)
    assert routed_batch_s(on_processor, shape, {"Q4_K": 1e9}, 4, CONSTANTS) == pytest.approx(4e9 / 43.6e9)
    rates = replace(on_processor, batch_steps={})
    one, two, many = (routed_batch_s(rates, shape, {"Q4_K": 1e9}, count, CONSTANTS) for count in (1, 2, 1000))
    assert one < two < 2 * batch_s(rates, {"Q4_K": 1e9}, 2, CONSTANTS)
    assert many == pytest.approx(4 * batch_s(rates, {"Q4_K": 1e9}, 250, CONSTANTS), rel=1e-3)
