"""Which engine answers: every row of the table."""

from __future__ import annotations

import pytest

from llmctl.errors import EngineError
from llmctl.planner.engine import EngineChoice, choice
from llmctl.types.engine import EngineName, NativeServer, ServerSource
from llmctl.types.machine import EngineInfo

SERVER = NativeServer("/bin/llama-server", ServerSource.PATH, "llama-server 1", 1)
USABLE = EngineInfo("llama-cpp-python", "0.3.36", None, usable=True)
BROKEN = EngineInfo("llama-cpp-python", None, None, why="it was built for another CPU")
WHY = "llama-cpp-python can't be used here: it was built for another CPU"


@pytest.mark.parametrize(
    ("asked", "worker", "server", "expected"),
    [
        (EngineName.LLAMA_CPP, USABLE, SERVER, EngineChoice()),
        (EngineName.LLAMA_CPP, BROKEN, SERVER, EngineChoice()),
        (EngineName.LLAMA_SERVER, USABLE, SERVER, EngineChoice(SERVER)),
        (EngineName.LLAMA_SERVER, BROKEN, SERVER, EngineChoice(SERVER)),
        (None, USABLE, SERVER, EngineChoice()),
        (None, None, SERVER, EngineChoice()),
        (None, BROKEN, SERVER, EngineChoice(SERVER, WHY)),
        (None, BROKEN, None, EngineChoice()),
    ],
)
def test_the_table(
    asked: EngineName | None, worker: EngineInfo | None, server: NativeServer | None, expected: EngineChoice
) -> None:
    assert choice(asked, worker, lambda: server) == expected


def test_what_was_asked_for_and_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no llama-server on this machine") as caught:
        choice(EngineName.LLAMA_SERVER, USABLE, lambda: None)
    assert caught.value.hint == "llmctl engine install llama-server"


def test_nothing_is_looked_for_that_does_not_matter() -> None:
    def looked() -> NativeServer:
        raise AssertionError("a program was run")

    assert choice(None, USABLE, looked) == choice(EngineName.LLAMA_CPP, USABLE, looked) == EngineChoice()
