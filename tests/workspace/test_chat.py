"""A chat whose engine doesn't get the memory that was planned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.cli.output import Output
from llmctl.errors import EngineDiedError
from llmctl.router.lending import LowerFit
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import SilentListener
from llmctl.types.plan import Configuration, Fit
from llmctl.types.request import Request
from llmctl.workspace import configuration
from llmctl.workspace.chat import Chat
from llmctl.workspace.local_run import Asked, LocalRun
from llmctl.workspace.session_engine import SessionEngine
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted


class Half:
    def below(self, fit: Fit) -> Iterator[LowerFit]:
        yield LowerFit(replace(fit, configuration=Configuration(fit.context // 2)), "half")

    def hint(self, fit: Fit) -> str | None:
        return None


def test_the_chat_goes_on_with_what_has_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lend, tried = SessionEngine.lend, list[int]()

    @contextmanager
    def short_of_memory(engine: SessionEngine, fit: Fit, listener: SilentListener) -> Iterator[LoadedEngine]:
        tried.append(fit.context)
        if fit.context > 512:
            error = EngineDiedError("memory ran out")
            error.lacked_memory = True
            raise error
        with lend(engine, fit, listener) as lent:
            yield lent

    monkeypatch.setattr(SessionEngine, "lend", short_of_memory)
    fit = fit_for(write_scripted(tmp_path / "model.gguf", ["The", " answer"]), context=1024)
    settings = configuration.load(Output("chat"))
    with Chat(SilentListener(), settings, Asked(None, None, None, None, 0, None)) as chat:
        chat.run = LocalRun(fit, steps_down=Half())
        for _ in range(2):
            assert chat.answer(Request.of("hi"), SilentListener(), PartialAnswer()).text == "The answer"
        assert chat.fit is not None and chat.fit.context == 512, "so that the next prompt is measured by it"
    assert tried == [1024, 512, 512]
