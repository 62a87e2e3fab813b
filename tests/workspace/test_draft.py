"""Which model drafts for the one that answers, of those that are here."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import Workspace, catalogue
from llmctl.errors import LlmctlError
from llmctl.types.plan import Fit, Plan, Want
from llmctl.types.speed_model import SpeedModel
from llmctl.workspace import draft
from tests.engine.test_drafted_answers import COPIED, TEXT
from tests.fakes.command import document, llmctl
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Beside one with the same tokens and one with others."""
    write_scripted(tmp_path / "small.gguf", COPIED)
    write_scripted(tmp_path / "other.gguf", COPIED[:-1])
    return write_scripted(tmp_path / "large.gguf", COPIED)


def planned(workspace: Workspace, model: Path) -> Fit:
    answer = workspace.plan(str(model))
    assert isinstance(answer, Plan)
    return answer.choice


CANNOT = {"other.gguf": (2, "can't draft for scripted: it has other tokens"), "none.gguf": (4, "does not exist")}


def test_one_that_is_named(model: Path) -> None:
    """It is counted, or refused."""
    workspace = Workspace()
    fit = planned(workspace, model)
    made = draft.with_named(workspace.situation, fit, str(model.with_name("small.gguf")), Want())
    assert made.draft is not None and made.draft.is_asked_for
    assert made.draft.candidate.path == model.with_name("small.gguf")
    assert made.memory.must_fit_bytes > 1.5 * fit.memory.must_fit_bytes
    for name, (code, words) in CANNOT.items():
        with pytest.raises(LlmctlError, match=words) as error:
            draft.with_named(workspace.situation, fit, str(model.with_name(name)), Want())
        assert error.value.exit_code == code


def larger(fit: Fit, size_bytes: int, token_s: float) -> Fit:
    """As if its file were so large, and a token took so long; a thousandth of that where it is read."""
    source = replace(fit.candidate.artifact.source, bytes=size_bytes)
    candidate = replace(fit.candidate, artifact=replace(fit.candidate.artifact, source=source))
    speed = SpeedModel(token_s, 0.0, 0.0, token_s / 1000, 0.0, 0.0, None, 512)
    return replace(fit, speed_model=speed, candidate=candidate)


# How many times as large the answering model is, the seconds of its tokens, the model that is here, does it draft?
HERE = {
    "it pays": (20, 1.0, "small.gguf", True),
    "too large": (4, 1.0, "small.gguf", False),
    "as slow as the other": (20, 1e-6, "small.gguf", False),
    "other tokens": (20, 1.0, "other.gguf", False),
}


def test_what_is_here_drafts_where_that_pays(model: Path) -> None:
    workspace = Workspace()
    fit = planned(workspace, model)
    for case, (times_as_large, token_s, name, is_drafted) in HERE.items():
        small = catalogue.from_file(model.with_name(name))
        situation = replace(workspace.situation, catalogue=replace(workspace.shelf.catalogue, models=(small.model,)))
        large = larger(fit, times_as_large * small.artifact.bytes, token_s)
        made = draft.with_best(situation, large, Want())
        assert (None if made.draft is None else made.draft.candidate.path) == (small.path if is_drafted else None), case
        assert (made == large) is not is_drafted, case


def test_run_answers_with_a_draft_model(model: Path) -> None:
    done = llmctl("run", "--json", "-m", str(model), "--draft", str(model.with_name("small.gguf")), "hi")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    assert data["text"] == TEXT
    assert data["timings"]["drafted_tokens"] > 0
