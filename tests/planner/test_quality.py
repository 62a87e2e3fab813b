"""The quality index: one scale, thinking marked, quantization paid for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmctl.planner.quality import index, loss, quality
from llmctl.types.model import Evidence, Thinking
from tests.planner.machines import knowledge, made, of

TABLE = knowledge().quality
QUANTS = knowledge().quants


def plain_index(name: str, *, thinking: bool = False) -> float:
    told = index(of(name)[0].model, thinking, TABLE)
    assert told is not None
    return told


def test_the_order_is_one_that_a_knowledgeable_friend_would_give() -> None:
    order = [
        "qwen3.8-27b",
        "qwen3.6-35b-a3b",
        "qwen3.5-9b",
        "qwen3.5-4b",
        "qwen3.5-2b",
        "qwen3-0.6b",
        "gemma-3-1b-it",
        "smollm2-135m-instruct",
    ]
    told = [plain_index(name) for name in order]
    assert told == sorted(told, reverse=True)
    assert (
        plain_index("llama-3.3-70b-instruct")
        > plain_index("llama-3.1-8b-instruct")
        > plain_index("llama-3.2-3b-instruct")
    )


def test_a_model_without_results_has_no_index() -> None:
    assert index(made(mmlu_pro=None).model, False, TABLE) is None
    assert quality(made(mmlu_pro=None).model, made().artifact, False, TABLE, QUANTS) is None


def test_one_result_is_read_off_its_line() -> None:
    line = TABLE.benchmarks["MMLU-Pro"]
    assert -line.intercept / line.slope == pytest.approx(0.06, abs=0.02)
    half_above_chance = 100 * (line.chance + (1 - line.chance) / 2)  # logit 0
    told = index(made(mmlu_pro=half_above_chance).model, False, TABLE)
    assert told == pytest.approx(TABLE.index_zero - TABLE.index_per_ability * line.intercept / line.slope)


def test_thinking_and_plain_results_are_not_the_same() -> None:
    """The same score is worth less where the model had to think for it, and an answer with thinking is worth more."""
    plain = made(mmlu_pro=60, thinking=Thinking.DEFAULT).model
    thought = replace(plain, evidence=(replace(plain.evidence[0], thinking=True),))
    gain = TABLE.index_per_ability * TABLE.thinking_gain
    told = {
        (one, mode): index(model, mode, TABLE) for one, model in enumerate((plain, thought)) for mode in (False, True)
    }
    assert told[0, False] == told[1, True]
    assert told[0, True] == pytest.approx((told[0, False] or 0) + gain)
    assert told[1, False] == pytest.approx((told[1, True] or 0) - gain)


def test_doubtful_results_weigh_less() -> None:
    sure = Evidence("MMLU-Pro", 40, "https://example.org")
    model = made().model
    high = replace(sure, score=80)
    kinds = (high, replace(high, self_reported=True), replace(high, estimated=True))
    both = [index(replace(model, evidence=(sure, one)), False, TABLE) for one in kinds]
    assert both[0] is not None and both[1] is not None
    assert both[1] < both[0]
    assert both[1] == both[2]


def test_results_around_chance_are_finite() -> None:
    for score in (0, 3, 10, 100):
        told = index(made(mmlu_pro=score).model, False, TABLE)
        assert told is not None and -30 < told < 130


def test_small_models_lose_most_and_eight_bits_nothing_to_speak_of() -> None:
    one = made()
    small, large = replace(one.model, parameters=600_000_000), replace(one.model, parameters=70_000_000_000)
    assert (
        loss(small, one.artifact, QUANTS)
        > loss(one.model, one.artifact, QUANTS)
        > loss(large, one.artifact, QUANTS)
        > 0
    )
    ladder = [
        loss(one.model, replace(one.artifact, quant=name), QUANTS)
        for name in ("Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K")
    ]
    assert ladder == sorted(ladder)
    assert ladder[0] < 0.1 and ladder[-1] > 10
    assert loss(replace(one.model, parameters=1000), one.artifact, QUANTS) < 4  # bounded


def test_released_in_four_bits_is_no_loss() -> None:
    (candidate,) = of("gpt-oss-20b")
    assert loss(candidate.model, candidate.artifact, QUANTS) == 0


def test_an_unknown_label_costs_what_its_bits_do() -> None:
    one = made(gib=8e9 * 4.9 / 8 / (1 << 30))
    told = loss(one.model, replace(one.artifact, quant="Q4_SPECIAL"), QUANTS)
    assert told == pytest.approx(loss(one.model, replace(one.artifact, quant="Q4_K_M"), QUANTS))


def test_a_loss_too_small_to_tell_is_none() -> None:
    one = made()
    told = {
        name: quality(one.model, replace(one.artifact, quant=name), False, TABLE, QUANTS)
        for name in ("F16", "Q8_0", "Q6_K", "Q3_K_M")
    }
    assert told["F16"] == told["Q8_0"] == told["Q6_K"]
    assert (told["Q3_K_M"] or 0) <= (told["F16"] or 0) - QUANTS.negligible
