"""Doctor's finding about memory: what was measured beside what was planned, and when the two are apart."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.checks.memory_drift import checks
from llmctl.engine.history import MeasuredRun, PredictedRun, Run
from llmctl.types.finding import Status
from tests.engine.test_history import RUN

GB = 10**9
GPU = replace(RUN, model="big", gpu_layers=33, predicted=PredictedRun(GB, 8 * GB, 50.0, 900.0))


def took(anonymous: int | None, device: int | None = None, run: Run = RUN, **changed: object) -> Run:
    return replace(run, measured=MeasuredRun(anonymous, device, 50.0, 900.0, None), **changed)


def planned(size: int, taken: int, **changed: object) -> Run:
    return took(taken, None, replace(RUN, predicted=PredictedRun(size, 0, 50.0, 900.0)), **changed)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ((), "no run was recorded yet"),
        ((took(None),), "this system doesn't say how much memory the recorded runs took"),
        ((planned(GB, GB // 2),), "memory is as planned: the recorded run took 0.50 of the plan"),
        ((planned(GB, GB // 4), planned(GB, 9 * GB // 10)), "the last 2 runs took 0.25 to 0.90 of the plan"),
        ((planned(10 * GB, 10 * GB + GB // 2),), "took 1.05 of the plan"),  # 5 % over
        (
            (planned(GB // 10, GB // 5),),
            "took 2.00 of the plan",
        ),  # a small model: the process itself, which the margin holds
        ((took(GB // 2, 8 * GB + GB // 5, GPU),), "took 0.97 of the plan"),  # 200 MB over, on a card
        ((took(GB // 2, 0, GPU),), "took 0.06 of the plan"),  # a driver that doesn't tell what is free
        ((took(GB // 2, None, GPU),), "took 0.50 of the plan"),
        ((took(None, 8 * GB, GPU),), "took 1.00 of the plan"),
        # an older run of the same model, before the plan was mended
        ((planned(GB, 3 * GB), planned(3 * GB, 3 * GB)), "1.00 to 3.00 of the plan"),
        # a plan that is wrong at one context, and another that is right and was used last
        ((planned(GB, 3 * GB, context=4096), planned(GB, GB)), "1.00 to 3.00 of the plan"),
        ((planned(GB, 3 * GB, engine="an older build"), planned(GB, GB)), "1.00 to 3.00 of the plan"),
    ],
)
def test_all_is_well(runs: tuple[Run, ...], said: str) -> None:
    (finding,) = checks(runs)
    assert (finding.id, finding.status, finding.remedy) == ("memory-drift", Status.OK, None)
    assert said in finding.message


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ((planned(GB, 2 * GB),), "Q4_1 at 8,192 tokens of context took 2.0 GB of memory, 1.0 GB was planned"),
        ((planned(10 * GB, 10 * GB + 7 * GB // 10),), "took 10.7 GB of memory, 10.0 GB was planned"),  # 7 % over
        # the last prompt was short and touched little: what the plan is for stays wrong
        ((planned(GB, 2 * GB), planned(GB, GB // 2)), "took 2.0 GB of memory"),
        ((took(GB // 2, 9 * GB, GPU),), "big Q4_1 at 8,192 tokens of context took 9.0 GB of the GPU's memory, 8.0 GB"),
        ((took(GB // 2, GB, GPU),), "took 1.0 GB of the GPU's memory, 8.0 GB was planned"),  # it isn't there
        ((took(GB // 2, 8 * GB, GPU), took(GB // 2, 7 * GB, GPU)), "took 7.0 GB of the GPU's memory"),
        (
            (took(GB, GB, replace(RUN, predicted=PredictedRun(GB, 0, 1.0, 1.0))),),
            "of the GPU's memory, 0 B was planned",
        ),
    ],
)
def test_apart(runs: tuple[Run, ...], said: str) -> None:
    (finding,) = checks(runs)
    assert (finding.id, finding.status) == ("memory-drift", Status.WARN)
    assert said in finding.message
    assert finding.remedy is not None and finding.remedy.startswith(f"llmctl bench {runs[-1].model}:Q4_1 ")


def test_every_model_that_is_apart_is_named_and_no_other() -> None:
    runs = [
        planned(GB, 2 * GB, model="a"),
        planned(GB, GB, model="b"),
        planned(GB, 2 * GB, model="b", quant="Q8_0"),
    ]
    assert [finding.message.split(" at ")[0] for finding in checks(runs)] == ["a Q4_1", "b Q8_0"]


def test_nothing_is_said_where_nothing_is_recorded() -> None:
    assert checks(None) == ()
