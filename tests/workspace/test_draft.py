"""Which model drafts for the one that answers, of those that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl import Workspace
from llmctl.errors import LlmctlError
from llmctl.types.plan import Fit, Plan, Want
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


def test_one_that_is_named_is_counted(model: Path) -> None:
    workspace = Workspace()
    fit = planned(workspace, model)
    made = draft.with_named(workspace.situation, fit, str(model.with_name("small.gguf")), Want())
    assert made.draft is not None and made.draft.is_asked_for
    assert made.draft.candidate.path == model.with_name("small.gguf")
    assert made.memory.must_fit_bytes > 1.5 * fit.memory.must_fit_bytes


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("other.gguf", 2, "can't draft for scripted: it has other tokens"), ("none.gguf", 4, "does not exist")],
)
def test_one_that_cannot_draft(model: Path, name: str, code: int, words: str) -> None:
    workspace = Workspace()
    with pytest.raises(LlmctlError, match=words) as error:
        draft.with_named(workspace.situation, planned(workspace, model), str(model.with_name(name)), Want())
    assert error.value.exit_code == code


def test_nothing_drafts_that_is_as_large(model: Path) -> None:
    workspace = Workspace()
    fit = planned(workspace, model)
    assert draft.with_best(workspace.situation, fit, Want()) == fit


def test_run_answers_with_a_draft_model(model: Path) -> None:
    done = llmctl("run", "--json", "-m", str(model), "--draft", str(model.with_name("small.gguf")), "hi")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    assert data["text"] == TEXT
    assert data["timings"]["drafted_tokens"] > 0
