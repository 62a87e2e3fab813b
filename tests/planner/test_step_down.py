"""What gives way where an engine could not get the memory that was planned, and what never does."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.planner.step_down import Step, steps
from llmctl.types.model import Shape
from llmctl.types.plan import Configuration, Fit, Want
from tests.fakes.fits import fit_for
from tests.fakes.real_shapes import shape_of

LLAMA = shape_of("llama-3.1-8b")


def fit(shape: Shape = LLAMA, **settings: Any) -> Fit:
    made = fit_for(None)
    candidate = replace(made.candidate, model=replace(made.candidate.model, shape=shape))
    return replace(made, candidate=candidate, configuration=Configuration(**settings))


CONTEXT = "4,096 tokens of context instead of 8,192"
CACHE = "a KV cache in q8_0 instead of f16"
LAYERS = "16 layers on GPUs instead of 33"
FILE = "a smaller file of it"


@pytest.mark.parametrize(
    ("planned", "want", "changes"),
    [
        (fit(context=8192, gpu_layers=33), Want(), [CONTEXT, CACHE, LAYERS, FILE]),
        (fit(context=8192), Want(), [CONTEXT, CACHE, FILE]),
        (fit(context=8192), Want(context=8192), [CACHE, FILE]),
        (fit(context=8192), Want(kv_type="f16"), [CONTEXT, FILE]),
        (fit(context=8192, gpu_layers=33), Want(gpu_layers=33), [CONTEXT, CACHE, FILE]),
        (fit(context=8192, kv_type="q8_0"), Want(), [CONTEXT, FILE]),
        (fit(context=2048), Want(), [CACHE, FILE]),
        (fit(context=8192), Want(prompt_tokens=4000, answer_tokens=200), [CACHE, FILE]),
        (fit(context=8192), Want(prompt_tokens=3000), [CONTEXT, CACHE, FILE]),
        (fit(shape_of("mamba-2.8b"), context=8192), Want(), [CONTEXT, FILE]),
    ],
)
def test_the_order_and_what_was_asked_for(planned: Fit, want: Want, changes: list[str]) -> None:
    assert [step.change for step in steps(planned, want)] == changes


def test_each_step_is_added_to_those_before_it_and_the_rest_stays() -> None:
    planned = fit(context=8192, gpu_layers=33, repack=False)
    below = list(steps(planned, Want(task="code", threads=4)))

    def wanted(step: Step) -> tuple[int | None, str | None, int | None]:
        return step.want.context, step.want.kv_type, step.want.gpu_layers

    assert list(map(wanted, below)) == [(4096, "f16", 33), (4096, "q8_0", 33), (4096, "q8_0", 16), (4096, "q8_0", None)]
    assert [step.want.repack for step in below] == [False, False, False, None], "another file has settings of its own"
    assert all(step.want.explicit and (step.want.task, step.want.threads) == ("code", 4) for step in below)
    assert [step.of_smaller_file for step in below] == [False, False, False, True]
