"""What is tried, of what is on this machine, where a plan does not get its memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmctl.cli.output import Output
from llmctl.types.plan import Fit, Plan, Want
from llmctl.workspace import situation
from llmctl.workspace.situation import Situation
from llmctl.workspace.step_down import Below
from tests.fakes import gguf_file, other_tools

pytestmark = pytest.mark.usefixtures("engine_known")


@pytest.fixture
def found() -> Situation:
    return situation.look(Output("test"), measure=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    shape = gguf_file.model_shape("smollm2-360m")
    return gguf_file.write_model(tmp_path / "x.gguf", shape, fill=gguf_file.Fill.SPARSE)


def planned(found: Situation, file: Path, want: Want) -> Fit:
    answer = found.plan(found.candidates(str(file)), want)
    assert isinstance(answer, Plan)
    return answer.choice


def test_each_takes_less_than_the_one_before(found: Situation, file: Path) -> None:
    want = Want(explicit=True, min_tok_s=0)
    fit = planned(found, file, want)
    below = list(Below(found, str(file), want).below(fit))
    assert [step.change for step in below] == [
        f"{fit.context // 2:,} tokens of context instead of {fit.context:,}",
        "a KV cache in q8_0 instead of f16",
    ]
    sizes = [step.fit.memory.must_fit_bytes for step in below]
    assert [fit.memory.must_fit_bytes, *sizes] == sorted({fit.memory.must_fit_bytes, *sizes}, reverse=True)
    assert [(step.fit.context, step.fit.kv_type) for step in below] == [
        (fit.context // 2, "f16"),
        (fit.context // 2, "q8_0"),
    ]
    assert Below(found, str(file), want).hint(fit) is None, "nothing was asked for that takes too much"
    file.unlink()
    assert list(Below(found, str(file), want).below(fit)) == below, "a file that is gone has no smaller ones"


def test_a_context_that_was_asked_for_stays_and_the_hint_says_which_takes_less(found: Situation, file: Path) -> None:
    want = Want(context=8192, explicit=True, min_tok_s=0)
    fit = planned(found, file, want)
    steps = Below(found, str(file), want)
    assert [step.change for step in steps.below(fit)] == ["a KV cache in q8_0 instead of f16"]
    hint = steps.hint(fit)
    assert hint is not None and hint.startswith("llmctl run --context 4096 …   takes ")


def test_the_last_step_is_a_smaller_file_of_the_same_model(found: Situation, home: Path, tmp_path: Path) -> None:
    cache = home / "cache/huggingface/hub"
    for quant, layers in (("Q4_0", 24), ("Q2_K", 6)):
        shape = replace(gguf_file.model_shape("tiny"), n_layer=layers, n_ff=1024, quant="Q4_0")
        made = gguf_file.write_model(tmp_path / f"{quant}.gguf", shape)
        other_tools.in_hub_cache(cache, "org/x-GGUF", made, name=f"x-{quant}.gguf", commit="a" * 40)
    want = Want(explicit=True, min_tok_s=0)
    every = found.candidates("org/x-GGUF", ask_hub=False)
    (large,) = (candidate for candidate in every if candidate.artifact.quant == "Q4_0")
    answer = found.plan([large], want)
    assert isinstance(answer, Plan)
    *_, last = Below(found, "org/x-GGUF", want).below(answer.choice)
    assert last.change == "a smaller file of it (Q2_K)"
    assert last.fit.candidate.path is not None and last.fit.candidate.artifact.quant == "Q2_K"
    assert "smaller" not in str([step.change for step in Below(found, "org/x-GGUF:Q4_0", want).below(answer.choice)])
