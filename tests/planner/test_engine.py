"""Which engine answers: every row of the table."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.errors import EngineError
from llmctl.planner.engine import EngineChoice, choice
from llmctl.types.engine import NativeServer, ServerSource
from llmctl.types.engine_name import EngineName
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineInfo

SERVER = NativeServer("/bin/llama-server", ServerSource.PATH, "llama-server 1", 1)
WITH_GPU = replace(SERVER, gpus=("CUDA0 (NVIDIA GeForce RTX 3060)",))
USABLE = EngineInfo("llama-cpp-python", "0.3.36", None, usable=True)
BROKEN = EngineInfo("llama-cpp-python", None, None, why="it was built for another CPU")
UNUSED = Accelerator("0000:01:00.0", "RTX 3060", "NVIDIA", AcceleratorKind.DISCRETE, None, None)
USED = replace(UNUSED, usable=True)
WHY = "llama-cpp-python can't be used here: it was built for another CPU"
ALONE = "it alone sees CUDA0 (NVIDIA GeForce RTX 3060); the plan counts on the processor only"


@pytest.mark.parametrize(
    ("asked", "worker", "cards", "server", "expected"),
    [
        (EngineName.LLAMA_CPP, USABLE, [], SERVER, EngineChoice()),
        (EngineName.LLAMA_CPP, BROKEN, [UNUSED], WITH_GPU, EngineChoice()),
        (EngineName.LLAMA_SERVER, USABLE, [], SERVER, EngineChoice(SERVER)),
        (EngineName.LLAMA_SERVER, BROKEN, [USED], SERVER, EngineChoice(SERVER)),
        (None, USABLE, [], SERVER, EngineChoice()),
        (None, None, [], SERVER, EngineChoice()),
        (None, BROKEN, [], SERVER, EngineChoice(SERVER, WHY)),
        (None, BROKEN, [UNUSED], WITH_GPU, EngineChoice(WITH_GPU, WHY)),
        (None, BROKEN, [], None, EngineChoice()),
        (None, USABLE, [UNUSED], WITH_GPU, EngineChoice(WITH_GPU, ALONE)),
        (None, USABLE, [UNUSED], SERVER, EngineChoice()),
        (None, USABLE, [UNUSED], None, EngineChoice()),
        (None, USABLE, [UNUSED, USED], WITH_GPU, EngineChoice()),
    ],
)
def test_the_table(
    asked: EngineName | None,
    worker: EngineInfo | None,
    cards: list[Accelerator],
    server: NativeServer | None,
    expected: EngineChoice,
) -> None:
    assert choice(asked, worker, cards, lambda: server) == expected


def test_what_was_asked_for_and_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no llama-server on this machine") as caught:
        choice(EngineName.LLAMA_SERVER, USABLE, [], lambda: None)
    assert caught.value.hint == "llmctl engine install llama-server"


@pytest.mark.parametrize(("asked", "cards"), [(None, []), (None, [USED]), (EngineName.LLAMA_CPP, [UNUSED])])
def test_no_program_is_looked_for_where_that_does_not_matter(
    asked: EngineName | None, cards: list[Accelerator]
) -> None:
    def looked() -> NativeServer:
        raise AssertionError("a program was run")

    assert choice(asked, USABLE, cards, looked) == EngineChoice()
