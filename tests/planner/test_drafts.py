"""What drafted tokens would bring: by the speed of prompts and of answers, and by what came of them so far."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from llmctl.catalogue.speed_constants import Range
from llmctl.cli.plan.screen import drafted
from llmctl.planner.drafts import draft_forecast
from llmctl.planner.speed import DRAFT_ROWS
from llmctl.types.past import PastRun
from llmctl.types.speed_model import DraftForecast, SpeedModel
from tests.fakes.fits import fit_for

FIT = fit_for(None)
TOGETHER = Range(0.75, 1.25, 1, 1)
RUN = PastRun(
    *("m", "Q4_1", None, None, "f16", 0, True, False, 2, 2, None, None, 0.1), depth=100, read_tokens=10, modelled=False
)


@pytest.mark.parametrize(
    ("token_s", "prompt_s", "steps", "gain"),
    [(0.01, 0.003, 4.8, 10 / 3), (0.01, 0.0001, 1.0, 16.0), (0.01, 0.01, 16.0, 1.0)],
    ids=["a small processor", "never faster than one token", "a batch saves nothing"],
)
def test_the_gain_by_the_speed_of_prompts(token_s: float, prompt_s: float, steps: float, gain: float) -> None:
    fit = replace(FIT, speed_model=SpeedModel(token_s, 0.0, 0.0, prompt_s, 0.0, 0.0, None, 512))
    forecast = draft_forecast(fit, 100, (), TOGETHER)
    assert forecast is not None
    assert forecast.rows == DRAFT_ROWS
    assert (forecast.steps, forecast.gain) == pytest.approx((steps, gain))
    assert 1 <= forecast.fewest_steps <= steps <= forecast.most_steps


def test_the_gain_by_what_several_at_once_were_measured_to_take() -> None:
    model = SpeedModel(0.01, 0.0, 0.0, 0.001, 0.0, 0.0, None, 512, steps_s=((16, 0.08),))
    forecast = draft_forecast(replace(FIT, speed_model=model), 100, (), TOGETHER)
    assert forecast is not None
    assert (forecast.fewest_steps, forecast.steps, forecast.most_steps) == pytest.approx((6.4, 8, 8 / 0.75))


def test_what_came_so_far() -> None:
    runs = [replace(RUN, drafted_tokens=100, accepted_tokens=80), RUN, replace(RUN, drafted_tokens=20)]
    forecast = draft_forecast(FIT, 100, runs, TOGETHER)
    assert forecast is not None and (forecast.accepted_tokens, forecast.drafted_tokens) == (80, 120)


def test_a_recurrent_model_drafts_nothing() -> None:
    model = FIT.candidate.model
    recurrent = replace(model, shape=replace(model.shape, state_bytes=1000))
    assert draft_forecast(replace(FIT, candidate=replace(FIT.candidate, model=recurrent)), 100, (), TOGETHER) is None


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"drafted_tokens": 0, "accepted_tokens": 0}, "up to 3.3 times as fast (2.5–4.0)."),
        ({"drafted_tokens": 1200, "accepted_tokens": 800}, "Of 1,200 tokens that were drafted here so far, 800 were"),
    ],
    ids=["never drafted", "drafted before"],
)
def test_it_is_told_with_what_it_rests_on(counts: Mapping[str, int], words: str) -> None:
    text = " ".join(
        line.strip() for line in drafted(DraftForecast(rows=16, steps=4.8, fewest_steps=4.0, most_steps=6.4, **counts))
    )
    assert "16 tokens computed at once take as long as some 4.8 one by one" in text
    assert words in text
