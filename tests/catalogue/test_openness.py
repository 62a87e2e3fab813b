"""What counts as open, dimension by dimension."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.catalogue.openness import MATCHES, admits, lacking
from llmctl.types.model import Model, Openness
from llmctl.types.openness import DIMENSIONS, NEEDED, Level

MODELS = catalogue.load(paths.profiles_dir() / "models").models
OPEN = dict.fromkeys(DIMENSIONS, "open")


def graded(**grades: str) -> Model:
    return replace(MODELS[0], openness=Openness("Family", "Family-9B", "exact", "https://example.org", grades))


def test_each_level_asks_for_more() -> None:
    for less, more in itertools.pairwise(Level):
        assert NEEDED[less] < NEEDED[more]
    assert NEEDED[Level.FULL] <= DIMENSIONS.keys()


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("grade", ["partial", "closed", None])
def test_a_dimension_that_is_not_open_is_lacking(level: Level, grade: str | None) -> None:
    for name in DIMENSIONS:
        grades = {**OPEN, name: grade} if grade else {key: OPEN[key] for key in OPEN if key != name}
        model = graded(**{key: value for key, value in grades.items() if value})
        assert lacking(model, level) == ({name: grade} if name in NEEDED[level] else {})
        assert admits(model, level=level) == (name not in NEEDED[level])


def test_a_model_that_nobody_graded_is_not_called_open() -> None:
    model = replace(MODELS[0], openness=None)
    assert set(lacking(model, Level.DATA)) == NEEDED[Level.DATA]
    assert set(lacking(model, Level.DATA).values()) == {None}
    assert not admits(model, level=Level.WEIGHTS)
    assert admits(model)


@pytest.mark.parametrize(
    ("licence", "wanted", "fits"),
    [
        ("Apache-2.0", "apache-2.0", True),
        ("Apache-2.0", " Apache-2.0 ", True),
        ("Apache-2.0", "MIT", False),
        ("Apache-2.0", "Apache", False),
        ("LicenseRef-Gemma-Terms-of-Use", "gemma-terms-of-use", True),
        ("LicenseRef-Gemma-Terms-of-Use", "licenseref-gemma-terms-of-use", True),
        (None, "MIT", False),
        (None, None, True),
    ],
)
def test_a_licence_by_its_name(licence: str | None, wanted: str | None, fits: bool) -> None:
    assert admits(replace(MODELS[0], licence=licence), licence=wanted) is fits


def test_every_match_has_words_and_is_in_use_with_a_date() -> None:
    matches = {model.openness.match for model in MODELS if model.openness}
    assert matches == MATCHES.keys()
    assert all(model.openness.date for model in MODELS if model.openness)


def test_an_exact_match_names_the_release_that_was_graded() -> None:
    for model in MODELS:
        if model.openness and model.openness.match == "exact":
            graded_on = model.openness.graded_on.lower().replace("-2509", "")
            assert model.id.split("-")[0] in graded_on and graded_on in model.sources["facts"].lower()
