"""Limits that have nothing to do with memory or speed, room for other programs, and what would change the pick."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.choose import BEST
from llmctl.planner.limits import speaks
from llmctl.planner.memory import room_bytes
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate, Evidence, Openness, Source, SourceKind
from llmctl.types.plan import Fit, NoFit, Plan, RejectionCode, Want
from tests.planner.machines import EPYC, GIB, LAPTOP, desktop, everything, knowledge, made, of

SOURCE = "https://example.org"


def planned(want: Want, *candidates: Candidate, machine: Machine = EPYC) -> Plan:
    answer = plan(machine, candidates or everything(), want, knowledge())
    assert isinstance(answer, Plan), answer
    return answer


def other(candidate: Candidate, **fields: Any) -> Candidate:
    return replace(candidate, model=replace(candidate.model, **fields))


def graded(openness: str) -> Openness:
    return Openness("Made", "made", "exact", SOURCE, dict.fromkeys(("weights_endmodel", "licenses"), openness))


GOOD = made("good", mmlu_pro=80)
PLAIN = other(made("plain", mmlu_pro=50), languages=("en", "it"), openness=graded("open"), licence="Apache-2.0")


@pytest.mark.parametrize(
    ("want", "good", "code", "words"),
    [
        (
            Want(language="it"),
            {"languages": ("en",)},
            RejectionCode.LANGUAGE,
            "is not listed for the language it: its publisher lists en",
        ),
        (Want(language="IT"), {}, RejectionCode.LANGUAGE, "its publisher lists none"),
        (
            Want(licence="apache-2.0"),
            {"licence": "MIT"},
            RejectionCode.LICENCE,
            "is under MIT, apache-2.0 is asked for",
        ),
        (Want(openness="weights"), {}, RejectionCode.OPENNESS, "is less open than weights: weights not graded"),
        (
            Want(openness="weights"),
            {"openness": graded("partial")},
            RejectionCode.OPENNESS,
            "is less open than weights: weights partial",
        ),
        (Want(architectures=frozenset({"mamba"})), {}, RejectionCode.ENGINE, "the installed engine can't load: llama"),
        (
            Want(architectures=frozenset({"minillama"})),
            {},
            RejectionCode.ENGINE,
            "the installed engine can't load: llama",
        ),
        (Want(), {"tasks": ("embed",)}, RejectionCode.TASK, "is for embed, not for chat"),
        (
            Want(max_download_bytes=2 * GIB),
            {},
            RejectionCode.DOWNLOAD,
            "is a download of 2.7 GB, at most 2.1 GB is allowed",
        ),
    ],
)
def test_what_breaks_a_limit_is_rejected_with_its_reason(
    want: Want, good: dict[str, Any], code: RejectionCode, words: str
) -> None:
    candidate = other(GOOD, **good)
    if want.architectures:
        answer = plan(EPYC, [candidate], want, knowledge())
        assert isinstance(answer, NoFit) and words in answer.reason
        assert [rejected.code for rejected in answer.rejected] == [code]
        return
    small = other(made("plain", gib=1, mmlu_pro=50), languages=("it",), openness=graded("open"), licence="Apache-2.0")
    answer = planned(want, candidate, small)
    assert answer.choice.candidate.model.id == "plain"
    (rejected,) = answer.rejected
    assert (rejected.model, rejected.code) == ("good", code) and words in rejected.reason


def test_installed_is_what_is_here(tmp_path: Path) -> None:
    stored = replace(PLAIN, path=tmp_path / "x.gguf")
    answer = planned(Want(installed=True), GOOD, stored)
    assert answer.choice.candidate is stored
    assert [(change.condition, change.fit.candidate.model.id) for change in answer.changes] == [
        ("with a download", "good")
    ]


def test_a_language_is_listed_or_a_test_in_it_was_passed() -> None:
    quality = knowledge().quality
    tested = other(GOOD, evidence=(Evidence("EuroEval European rank", 2.0, SOURCE),)).model
    assert [speaks(tested, language, quality) for language in ("it", "DE", "ja")] == [True, True, False]
    worse = other(GOOD, evidence=(Evidence("EuroEval European rank", 3.5, SOURCE),)).model
    assert not speaks(worse, "it", quality)
    assert speaks(PLAIN.model, "it", quality) and not speaks(GOOD.model, "it", quality)
    assert speaks(other(GOOD, languages=("multilingual",)).model, "sw", quality)


def test_seeing_takes_a_projector_in_memory_and_download() -> None:
    sees = other(GOOD, tasks=("chat", "vision"), projector=Source(SourceKind.HUB, "example/good", "mmproj.gguf", 10**9))
    blind = other(PLAIN, tasks=("chat", "vision"))
    chat, vision = planned(Want(), sees, blind).choice, planned(Want(task="vision"), sees, blind)
    assert vision.choice.download_bytes == chat.download_bytes + 10**9
    at = vision.choice.memory.by_device[0]
    assert at.weights_bytes + at.repacked_bytes == sees.artifact.weights.total_bytes + 10**9
    assert "has no vision projector" in vision.rejected[0].reason


@pytest.mark.parametrize("task", ["embed", "rerank"])
def test_nothing_is_written_where_texts_are_read(task: str) -> None:
    answer = planned(Want(task=task), machine=LAPTOP)
    assert answer.choice.candidate.model.tasks == (task,)
    assert "reads " in answer.choice.reasons[0]
    paces = [fit.speed.prefill_tok_s for fit in (answer.choice, *answer.alternatives)]
    assert paces == sorted(paces)


class TestRoom:
    LARGE = made("large", gib=5.7, mmlu_pro=80)
    SMALL = made("small", gib=2.0, mmlu_pro=50)
    MACHINE = replace(
        LAPTOP,
        memory=replace(LAPTOP.memory, available_bytes=7 * GIB, bandwidth_bytes_per_s=200e9),
        cpu=replace(LAPTOP.cpu, physical_cores=64, usable_threads=64),
    )

    def test_a_recommendation_leaves_some(self) -> None:
        answer = planned(Want(), self.LARGE, self.SMALL, machine=self.MACHINE)
        assert answer.choice.candidate.model.id == "small"
        assert "of the 1.5 GB that is kept for other programs" in answer.rejected[0].reason
        assert "with no room for other programs (--tight)" in [change.condition for change in answer.changes]

    @pytest.mark.parametrize("want", [Want(tight=True), Want(explicit=True)])
    def test_who_asks_for_it_gets_it(self, want: Want) -> None:
        answer = planned(want, self.LARGE, self.SMALL, machine=self.MACHINE)
        assert answer.choice.candidate.model.id == "large"

    def test_it_grows_with_memory_and_what_is_left_does_too(self) -> None:
        sizes = [round(gib * GIB / 8) for gib in range(1, 600)]
        left = [size - room_bytes(size) for size in sizes]
        assert left == sorted(left)
        assert [room_bytes(size * GIB) for size in (1, 100)] == [0, 8 * GIB]


class TestNearTheFloor:
    def fit(self, decode_tok_s: float, want: Want | None = None) -> Fit | NoFit:
        """With a memory that lets it write so many tokens a second."""
        slow = replace(LAPTOP, memory=replace(LAPTOP.memory, bandwidth_bytes_per_s=20e9))
        was = planned(Want(min_tok_s=0.01), GOOD, machine=slow).choice.speed.decode_tok_s
        flow = 20e9 * decode_tok_s / was
        for _ in range(8):  # other times than the memory's are in it
            slow = replace(slow, memory=replace(slow.memory, bandwidth_bytes_per_s=flow))
            flow *= decode_tok_s / planned(Want(min_tok_s=0.01), GOOD, machine=slow).choice.speed.decode_tok_s
        answer = plan(slow, [GOOD], want or Want(), knowledge())
        return answer.choice if isinstance(answer, Plan) else answer

    def test_a_miss_within_the_range_is_told_and_no_cliff(self) -> None:
        near = self.fit(7.5)
        assert isinstance(near, Fit) and "within the range of the prediction" in near.reasons[0]
        assert isinstance(self.fit(7.0), NoFit)

    def test_a_floor_that_was_asked_for_is_kept(self) -> None:
        assert isinstance(self.fit(7.5, Want(min_tok_s=8)), NoFit)


class TestChanges:
    def test_without_the_floor(self) -> None:
        answer = planned(Want(), made("large", gib=12, mmlu_pro=80), made("small", mmlu_pro=50))
        assert [(change.condition, change.fit.candidate.model.id) for change in answer.changes] == [
            ("without the speed floor", "large")
        ]

    def test_the_least_memory_that_helps_is_told_and_enough(self) -> None:
        fast = replace(
            LAPTOP,
            memory=replace(LAPTOP.memory, bandwidth_bytes_per_s=900e9),
            cpu=replace(LAPTOP.cpu, physical_cores=64, usable_threads=64),
        )
        large, small = made("large", gib=14, mmlu_pro=80), made("small", mmlu_pro=50)
        (change,) = planned(Want(), large, small, machine=fast).changes
        step = int(change.condition.split()[1])
        assert change.condition == f"with {step} GB more memory" and change.fit.candidate is large
        for size, expected in ((step, "large"), (step // 2, "small")):
            memory = replace(fast.memory, available_bytes=fast.memory.available_bytes + size * GIB)
            choice = planned(Want(), large, small, machine=replace(fast, memory=memory)).choice
            assert choice.candidate.model.id == expected

    def test_more_of_a_cards_memory(self) -> None:
        card = desktop(7.5, memory_gib=8)
        large, small = made("large", gib=14, mmlu_pro=80), made("small", mmlu_pro=50)
        changes = planned(Want(), large, small, machine=card).changes
        assert any("more on the RTX 3060" in change.condition for change in changes)

    def test_each_is_clearly_better_and_keeps_the_other_limits(self) -> None:
        for machine in (EPYC, LAPTOP, desktop()):
            want = Want(task="code", max_download_bytes=6 * GIB)
            answer = planned(want, machine=machine)
            assert answer.changes
            for change in answer.changes:
                assert (change.fit.quality or 0) >= (answer.choice.quality or 0) + 2
                assert change.fit.download_bytes <= 6 * GIB or change.condition == "without --max-download"

    def test_what_was_asked_for_by_name_is_not_argued_with(self) -> None:
        assert planned(Want(explicit=True), *of("qwen3.5-2b")).changes == ()


def test_a_quant_that_another_beats_here_in_quality_and_speed_is_not_offered() -> None:
    """But one of more bits, where memory and speed are to spare."""
    for task in ("chat", "code"):
        answer = planned(Want(task=task))
        offered = [answer.picks[BEST], *answer.alternatives]
        for fit in offered:
            for better in offered:
                if better is not fit and better.candidate.model.id == fit.candidate.model.id:
                    assert not (
                        (better.quality or 0) >= (fit.quality or 0)
                        and better.speed.decode_tok_s >= fit.speed.decode_tok_s
                        and better.grade is not None
                        and fit.grade is not None
                        and better.grade.lost <= fit.grade.lost
                    )


def test_a_distillation_says_what_it_is_not() -> None:
    reasons = planned(Want(explicit=True), *of("deepseek-r1-0528-qwen3-8b")).choice.reasons
    assert "a distillation: Qwen/Qwen3-8B-Base trained on what DeepSeek-R1-0528 wrote; it is not that model" in reasons


def test_for_agent_what_is_weak_is_no_choice_unless_it_was_named() -> None:
    known = knowledge()
    floor = known.tasks["agent"].min_quality
    assert floor is not None
    able, weak, untested = made("able", mmlu_pro=95), made("weak", mmlu_pro=15), made("untested", mmlu_pro=None)
    fast = desktop()
    answer = plan(fast, [able, weak, untested], Want(task="agent", context=8192), known)
    assert isinstance(answer, Plan), answer
    assert answer.choice.candidate.model.id == "able" and (answer.choice.quality or 0) >= floor
    reasons = {row.model: row.reason for row in answer.rejected if row.code is RejectionCode.QUALITY}
    assert re.fullmatch(rf"has a quality of -?\d+; for agent a model is of use from {floor}", reasons["weak"])
    assert reasons["untested"].startswith("has no results that a quality could be told by")
    assert isinstance(plan(fast, [weak], Want(task="agent", context=8192, explicit=True), known), Plan)
    assert isinstance(plan(fast, [weak], Want(task="chat"), known), Plan)
