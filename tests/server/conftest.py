"""One engine with a scripted model and one gateway in front of it, for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes import gateway
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import WITH_TOOLS, Token, control, write_scripted

SCRIPT = ("The", " answer", " is", " 42", ".")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    file = write_scripted(tmp_path_factory.mktemp("scripted") / "scripted-F32.gguf", SCRIPT, template=WITH_TOOLS)
    with start(fit_for(file, threads=1, sequences=2, name="scripted")) as engine:
        yield engine.address


@pytest.fixture(scope="module")
def served(address: Address) -> Models:
    return Models(Model(address, "scripted"))


@pytest.fixture(scope="module")
def url(served: Models) -> Iterator[str]:
    with gateway.serving(served, ping_s=0.1) as url:
        yield url


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Of a model that thinks, then calls a tool."""
    call = ['<tool_call>{"name":', ' "weather",', ' "arguments":', ' {"at":', ' "Oslo"}}', "</tool_call>"]
    script: list[str | Token] = [control("<think>"), "Look", " it", " up", control("</think>"), *call]
    file = write_scripted(tmp_path_factory.mktemp("calling") / "calling-F32.gguf", script, template=WITH_TOOLS)
    with start(fit_for(file, context=4096, threads=1, name="calling")) as engine:
        yield engine.address
