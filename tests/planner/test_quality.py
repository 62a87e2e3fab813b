"""The quality index: by task, on grounds that are told, thinking marked, quantization paid for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.catalogue.family import related
from llmctl.planner.quality import grade, loss, quantized, usual, weights_of
from llmctl.types.grade import Grade, GradeBasis
from llmctl.types.model import Evidence, Model, Thinking
from tests.planner.machines import knowledge, made, of, shipped

TABLE = knowledge().quality
QUANTS = knowledge().quants
CHAT = knowledge().tasks["chat"].evidence
CODE = knowledge().tasks["code"].evidence
SOURCE = "https://example.org"


def graded(model: Model, *, task: str = "chat", thinking: bool = False, language: bool = False) -> Grade:
    made = grade(model, thinking, weights_of(knowledge().tasks[task].evidence, language), TABLE)
    assert made is not None
    return made


def index(name: str, task: str = "chat", *, thinking: bool = False) -> float:
    return graded(of(name)[0].model, task=task, thinking=thinking).index


def model(*evidence: Evidence, parameters: int = 8_000_000_000, thinking: Thinking = Thinking.NEVER) -> Model:
    return replace(made(thinking=thinking).model, evidence=evidence, parameters=parameters)


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
    for task in ("chat", "summarise", "translate"):
        indices = [index(name, task) for name in order]
        assert indices == sorted(indices, reverse=True), task
    assert index("llama-3.3-70b-instruct") > index("llama-3.1-8b-instruct") > index("llama-3.2-3b-instruct")


@pytest.mark.parametrize(
    ("task", "better", "worse"),
    [
        ("code", "qwen3-coder-next", "llama-3.3-70b-instruct"),
        ("code", "qwen2.5-coder-7b-instruct", "llama-3.1-8b-instruct"),
        ("reasoning", "deepseek-r1-0528-qwen3-8b", "llama-3.1-8b-instruct"),
        ("translate", "gemma-4-31b-it", "granite-4.2-30b"),
        ("embed", "qwen3-embedding-0.6b", "bge-m3"),
    ],
)
def test_a_task_has_its_own_order(task: str, better: str, worse: str) -> None:
    assert index(better, task, thinking=task == "reasoning") > index(worse, task, thinking=task == "reasoning")


def test_what_the_task_is_about_weighs_most() -> None:
    coder = model(Evidence("LiveCodeBench v6", 75, SOURCE), Evidence("MMLU-Pro", 40, SOURCE))
    sage = model(Evidence("LiveCodeBench v6", 30, SOURCE), Evidence("MMLU-Pro", 80, SOURCE))
    assert graded(coder, task="code").index > graded(sage, task="code").index
    assert graded(coder).index < graded(sage).index


def test_a_language_makes_multilingual_results_weigh() -> None:
    """The best possible rank against the best result in English."""
    speaks = model(Evidence("EuroEval European rank", 1.5, SOURCE), Evidence("MMLU-Pro", 40, SOURCE))
    english = model(Evidence("EuroEval European rank", 3.5, SOURCE), Evidence("MMLU-Pro", 80, SOURCE))
    assert graded(speaks).index < graded(english).index
    assert graded(speaks, language=True).index > graded(english, language=True).index
    assert weights_of({"embedding": 1}, language=True) == {"embedding": 1}


def test_a_model_that_is_not_tested_in_the_task_is_put_at_the_low_end() -> None:
    untested = model(Evidence("MMLU-Pro", 60, SOURCE))
    made = graded(untested, task="code")
    assert made.cautious and not graded(untested).cautious
    low = graded(model(Evidence("MMLU-Pro", 60, SOURCE), Evidence("HumanEval", 70, SOURCE)), task="code")
    assert not low.cautious
    estimated = graded(model(Evidence("LMArena text", 1300, SOURCE, estimated=True)))
    assert estimated.cautious


def test_a_model_without_results_or_relatives_has_no_index() -> None:
    assert grade(model(), False, CHAT, TABLE) is None
    assert grade(model(Evidence("A benchmark of nobody", 90, SOURCE)), False, CHAT, TABLE) is None
    assert grade(model(Evidence("Artificial Analysis Intelligence Index v4.1", 30, SOURCE)), False, CHAT, TABLE) is None


class TestRelatives:
    """One family: 2B and 32B are tested, 8B is not."""

    SMALL = replace(model(Evidence("MMLU-Pro", 40, SOURCE), parameters=2_000_000_000), id="small", name="Small")
    MIDDLE = replace(model(), id="middle", name="Middle")
    LARGE = replace(model(Evidence("MMLU-Pro", 75, SOURCE), parameters=32_000_000_000), id="large", name="Large")

    def middle(self, *family: Model) -> Grade | None:
        return grade(next(member for member in related(family) if member.id == "middle"), False, CHAT, TABLE)

    def test_neighbours_bound_it(self) -> None:
        made = self.middle(self.LARGE, self.MIDDLE, self.SMALL)
        assert made is not None and made.basis is GradeBasis.RELATIVES and made.cautious
        assert made.relatives == ("Small", "Large")
        assert graded(self.SMALL).index <= made.index <= graded(self.LARGE).index
        assert (made.results, made.converted) == (0, 0) and made.spread > 0

    def test_it_is_never_above_a_larger_one(self) -> None:
        weak = replace(self.LARGE, evidence=(Evidence("MMLU-Pro", 30, SOURCE),))
        made = self.middle(self.MIDDLE, weak, self.SMALL)
        assert made is not None and made.index <= graded(weak).index

    def test_a_single_smaller_one_tells_little(self) -> None:
        made = self.middle(self.MIDDLE, self.SMALL)
        assert made is not None and made.relatives == ("Small",)
        assert made.index == pytest.approx(graded(self.SMALL).index)  # the low end of the range, no lower than that

    def test_a_distillation_is_no_relative(self) -> None:
        distilled = replace(self.LARGE, distilled_from="A teacher", base_model="maker/base")
        assert self.middle(self.MIDDLE, distilled) is None

    def test_it_is_told_of_the_catalogue(self) -> None:
        made = graded(next(listed for listed in shipped().models if listed.id == "lfm2.5-8b-a1b"))
        assert made.basis is GradeBasis.RELATIVES and made.relatives
        assert not any(
            relative.name == "Qwen3 8B R1-Distill"
            for candidate in of("qwen3-8b")
            for relative in candidate.model.relatives
        )


def test_one_result_and_what_is_usual_make_the_mean() -> None:
    line = TABLE.benchmarks["MMLU-Pro"]
    half = line.worst + (line.best - line.worst) / 2  # logit 0
    dated = replace(model(Evidence("MMLU-Pro", half, SOURCE)), released="2025-01-01")
    ability, spread = -line.intercept / line.slope, line.spread / line.slope
    weights = CHAT["knowledge"] / spread**2, 1 / TABLE.usual_spread**2
    mean = (weights[0] * ability + weights[1] * usual(8e9, "2025-01-01", TABLE)) / sum(weights)
    assert graded(dated).index == pytest.approx(TABLE.index_zero + TABLE.index_per_ability * mean)
    assert graded(dated).spread == pytest.approx(TABLE.index_per_ability * sum(weights) ** -0.5)


def test_newer_and_larger_is_usually_better() -> None:
    assert usual(16e9, None, TABLE) - usual(8e9, None, TABLE) == pytest.approx(TABLE.per_doubling)
    assert usual(8e9, "2026-01-01", TABLE) > usual(8e9, "2025-07", TABLE) > usual(8e9, "2025", TABLE) - 0.1
    experts = replace(model(), parameters=32_000_000_000, active_parameters=2_000_000_000)
    assert experts.size == pytest.approx(8e9)


def test_thinking_and_plain_results_are_not_the_same() -> None:
    """The same score is worth less where the model had to think for it, and an answer with thinking is worth more."""
    plain = model(Evidence("MMLU-Pro", 60, SOURCE), thinking=Thinking.DEFAULT)
    thought = model(Evidence("MMLU-Pro", 60, SOURCE, thinking=True), thinking=Thinking.DEFAULT)
    grades = {
        (index_of_model, mode): graded((plain, thought)[index_of_model], thinking=mode)
        for index_of_model in (0, 1)
        for mode in (False, True)
    }
    assert grades[0, False].index == grades[1, True].index
    assert grades[0, True].index > grades[0, False].index > grades[1, False].index
    assert [grades[key].converted for key in ((0, False), (0, True), (1, False), (1, True))] == [0, 1, 1, 0]
    assert grades[0, True].spread > grades[0, False].spread


def test_doubtful_results_weigh_less() -> None:
    sure, high = Evidence("MMLU-Pro", 40, SOURCE), Evidence("MMLU-Pro", 80, SOURCE)
    kinds = (high, replace(high, self_reported=True), replace(high, estimated=True))
    both = [graded(model(sure, result)).index for result in kinds]
    assert both == sorted(both, reverse=True) and len(set(both)) == 3


def test_results_around_chance_are_finite() -> None:
    for score in (0, 3, 10, 100):
        assert -30 < graded(model(Evidence("MMLU-Pro", score, SOURCE))).index < 130


def test_small_models_lose_most_and_eight_bits_nothing_to_speak_of() -> None:
    candidate = made()
    small, large = replace(candidate.model, parameters=600_000_000), replace(candidate.model, parameters=70_000_000_000)
    assert (
        loss(small, candidate.artifact, QUANTS)
        > loss(candidate.model, candidate.artifact, QUANTS)
        > loss(large, candidate.artifact, QUANTS)
        > 0
    )
    ladder = [
        loss(candidate.model, replace(candidate.artifact, quant=name), QUANTS)
        for name in ("Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K")
    ]
    assert ladder == sorted(ladder)
    assert ladder[0] < 0.1 and ladder[-1] > 10
    assert loss(replace(candidate.model, parameters=1000), candidate.artifact, QUANTS) < 4  # bounded


def test_the_loss_agrees_with_measured_accuracy() -> None:
    """Qwen3-4B-Instruct-2507 in MLX: 64.05 points of MMLU-Pro in 16 bits, 62.38 in 5, 60.72 in 4
    (mlx-lm, BENCHMARKS.md), on this benchmark's line."""
    from llmctl.planner.quality import ability

    line, (candidate, *_) = TABLE.benchmarks["MMLU-Pro"], of("qwen3-4b-instruct-2507")
    whole, five, four = (TABLE.index_per_ability * ability(line, score) for score in (64.05, 62.38, 60.72))
    losses = {
        name: loss(candidate.model, replace(candidate.artifact, quant=name), QUANTS) for name in ("Q5_0", "Q4_K_M")
    }
    assert losses["Q5_0"] == pytest.approx(whole - five, abs=0.4)
    assert losses["Q4_K_M"] < whole - four  # which has no finer types for what matters


def test_released_in_four_bits_is_no_loss() -> None:
    (candidate,) = of("gpt-oss-20b")
    assert loss(candidate.model, candidate.artifact, QUANTS) == 0


def test_an_unknown_label_costs_what_its_bits_do() -> None:
    candidate = made(gib=8e9 * 4.9 / 8 / (1 << 30))
    unknown = loss(candidate.model, replace(candidate.artifact, quant="Q4_SPECIAL"), QUANTS)
    assert unknown == pytest.approx(loss(candidate.model, replace(candidate.artifact, quant="Q4_K_M"), QUANTS))


def test_a_loss_too_small_to_tell_is_none() -> None:
    whole = graded(model(Evidence("MMLU-Pro", 60, SOURCE)))
    grades = [quantized(whole, cost, QUANTS) for cost in (0.0, QUANTS.negligible * 0.9, 3.0)]
    assert all(grades) and [made.lost for made in grades if made] == [0.0, QUANTS.negligible * 0.9, 3.0]
    indices = [made.index for made in grades if made]
    assert indices[0] == indices[1] == round(whole.index) and indices[2] == round(whole.index) - 3
    assert quantized(None, 1.0, QUANTS) is None
