"""Pictures with a prompt, answered on this machine by a small model with a vision projector of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.errors import UsageError
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.listener import SilentListener
from llmctl.types.request import ImagePart, Message, Request, Sampling, TextPart
from llmctl.workspace import configuration
from llmctl.workspace.chat import Chat
from llmctl.workspace.local_run import Asked
from tests.engine.test_context import TINY
from tests.engine.test_pictures import A, B, language_model
from tests.fakes import vision
from tests.fakes.command import document, llmctl

pytestmark = pytest.mark.usefixtures("measured")

SHORT = Sampling(max_tokens=6, temperature=0.0)
SEEN = Request((Message("user", (ImagePart(A, "image/png"), TextPart("What is it?"))),), sampling=SHORT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Beside its projector and two pictures."""
    vision.write_projector(tmp_path / "mmproj-F16.gguf", text_embd=TINY.n_embd)
    for name, data in (("a.png", A), ("b.png", B)):
        (tmp_path / name).write_bytes(data)
    return language_model(tmp_path / "tiny-F16.gguf")


def answered(model: Path, *pictures: str) -> str:
    images = [option for name in pictures for option in ("--image", str(model.parent / name))]
    done = llmctl("run", "--json", "-m", str(model), *images, "-n", "6", "--temperature", "0", "What is it?")
    assert done.returncode == 0, done.stderr
    return str(document(done)["data"]["text"])


def test_run_answers_about_a_picture(model: Path) -> None:
    assert answered(model, "a.png") == answered(model, "a.png")
    assert answered(model, "a.png") != answered(model, "b.png")


def test_a_model_without_a_projector(model: Path) -> None:
    (model.parent / "mmproj-F16.gguf").unlink()
    done = llmctl("run", "-m", str(model), "--image", str(model.parent / "a.png"), "What is it?")
    assert done.returncode == 2
    assert "has no vision projector, so it reads no images\n  next: llmctl plan --task vision" in done.stderr


def test_a_chat_loads_the_projector_for_its_first_picture(model: Path) -> None:
    listener = SilentListener()
    asked = Asked(str(model), None, None, 1, 0, 6)
    with Chat(listener, configuration.load(listener), asked) as chat:
        chat.begin(yes=False)
        said = chat.answer(Request.of("Hi", SHORT), listener, PartialAnswer())
        projectors = [chat.fit and chat.fit.candidate.projector]
        seen = chat.answer(SEEN, listener, PartialAnswer())
        projectors.append(chat.fit and chat.fit.candidate.projector)
        assert projectors == [None, model.parent / "mmproj-F16.gguf"]
        assert seen.text and said.text and seen.text != said.text
        assert (seen.usage.prompt_tokens or 0) > (said.usage.prompt_tokens or 0) + vision.TOKENS


def test_a_chat_goes_on_where_its_model_reads_no_images(model: Path) -> None:
    (model.parent / "mmproj-F16.gguf").unlink()
    listener = SilentListener()
    with Chat(listener, configuration.load(listener), Asked(str(model), None, None, 1, 0, 6)) as chat:
        chat.begin(yes=False)
        with pytest.raises(UsageError, match="reads no images"):
            chat.answer(SEEN, listener, PartialAnswer())
        assert chat.answer(Request.of("Hi", SHORT), listener, PartialAnswer()).text
