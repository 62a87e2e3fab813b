"""What a gateway is planned to serve: real plans for tiny files, nothing is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.errors import NothingFitsError, UsageError
from llmctl.settings import load
from llmctl.types.listener import SilentListener
from llmctl.types.plan import CPU, DeviceMemory, Fit
from llmctl.workspace import choose
from llmctl.workspace.serve_plan import ServeAsked, ServePlan, planned
from llmctl.workspace.served_model import PlannedModel
from tests.fakes.encoder import write_encoder
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_scripted(folder / "tiny.gguf", ["The", " answer"])
    (folder / "again").mkdir()
    write_scripted(folder / "again" / "tiny.gguf", ["Another"])
    write_encoder(folder / "encoder.gguf")
    return folder


def plan(files: Path, *names: str, **asked: object) -> ServePlan:
    given = replace(ServeAsked(tuple(str(files / name) for name in names)), **asked)
    return planned(SilentListener(), load(), given)


def test_as_many_users_as_there_is_room_for_four_at_most(files: Path) -> None:
    for asked, expected in (({}, (4, 4, 4096)), ({"users": 7, "context": 512}, (7, 7, 512))):
        (model,) = plan(files, "tiny.gguf", **asked).models
        assert isinstance(model, PlannedModel)
        assert (model.users, model.fit.configuration.sequences, model.fit.context) == expected


def test_an_embedding_model_beside_one_that_writes(files: Path) -> None:
    made = plan(files, "tiny.gguf", "encoder.gguf", users=3, pinned=("encoder",))
    tiny, encoder = made.models
    assert (tiny.writes, encoder.writes, encoder.users, encoder.pinned, tiny.pinned) == (True, False, 3, True, False)
    assert (made.auto["chat"], made.auto["embed"]) == ("tiny", "encoder") and "vision" not in made.auto
    assert (tiny.tasks[0], encoder.tasks, made.task, made.all_together) == ("chat", ("embed",), "chat", True)


def test_models_that_are_called_the_same_have_names_of_their_own(files: Path) -> None:
    made = plan(files, "tiny.gguf", "again/tiny.gguf", "tiny.gguf")
    assert [model.name for model in made.models] == ["tiny:F32-1", "tiny:F32-2"]


def wide(fit: Fit, share: float) -> Fit:
    """The same plan on a machine where it takes ``share`` of the memory."""
    size = round(share * (10 << 30))
    row = DeviceMemory(CPU, size, 0, 0, 0, 0, size, 10 << 30)
    return replace(fit, memory=replace(fit.memory, by_device=(row,)))


def test_what_is_pinned_has_to_fit_together(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = choose.planned

    def large(*arguments: object) -> object:
        fit = real(*arguments)  # type: ignore[arg-type]
        return wide(fit, 0.6) if isinstance(fit, Fit) else fit

    monkeypatch.setattr(choose, "planned", large)
    made = plan(files, "tiny.gguf", "encoder.gguf")
    assert not made.all_together
    with pytest.raises(NothingFitsError, match=r"tiny and encoder can't be pinned together: they need 12\.9 GB of cpu"):
        plan(files, "tiny.gguf", "encoder.gguf", pinned=("tiny", "encoder"))


def test_too_many_users_says_how_many_fit(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmctl.types.plan import NoFit, Rejected, RejectionCode, Want

    real = choose.planned

    def at_most_three(situation: object, candidates: object, wanted: Want) -> object:
        if wanted.users > 3:
            return NoFit("needs 9 GB, 8 GB are free", (), Rejected("m", "q", RejectionCode.MEMORY, "needs more"))
        return real(situation, candidates, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(choose, "planned", at_most_three)
    (model,) = plan(files, "tiny.gguf").models
    assert model.users == 3
    with pytest.raises(NothingFitsError, match="for 8 users at once: needs 9 GB") as refused:
        plan(files, "tiny.gguf", users=8)
    assert refused.value.hint is not None and "--users" in refused.value.hint


def test_a_name_that_is_pinned_is_served(files: Path) -> None:
    with pytest.raises(UsageError, match="--pin other: no model of that name is served, only tiny"):
        plan(files, "tiny.gguf", pinned=("other",))
