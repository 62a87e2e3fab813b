"""The engine that answers where memory does not suffice for the one that was planned."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from llmctl.errors import EngineDiedError, EngineError
from llmctl.router.lending import LowerFit, lent
from llmctl.types.engine import LoadedEngine
from llmctl.types.listener import SilentListener
from llmctl.types.plan import Configuration, Fit
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

ROOT = Path(__file__).parents[2]
LOADED = cast(LoadedEngine, object())


class Heard(SilentListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


class Halves:
    """Half the context, and half of that."""

    def below(self, fit: Fit) -> Iterator[LowerFit]:
        for part in (2, 4):
            less = fit.context // part
            yield LowerFit(replace(fit, configuration=Configuration(less)), f"{less} tokens")

    def hint(self, fit: Fit) -> str | None:
        return "llmctl run --context 512 …"


def short_of_memory(error: EngineError) -> EngineError:
    error.lacked_memory = True
    return error


@contextmanager
def needs_at_most(fit: Fit, most: int, error: EngineError) -> Iterator[LoadedEngine]:
    if fit.context > most:
        raise error
    yield LOADED


@pytest.mark.parametrize(
    ("most", "context", "lines"),
    [
        (1024, 1024, []),
        (512, 512, ["it died; it is tried with 512 tokens"]),
        (256, 256, ["it died; it is tried with 512 tokens", "it died; it is tried with 256 tokens"]),
    ],
)
def test_the_first_that_loads_and_each_step_is_said(most: int, context: int, lines: list[str]) -> None:
    heard, error = Heard(), short_of_memory(EngineDiedError("it died"))
    with lent(fit_for(None, context=1024), lambda fit: needs_at_most(fit, most, error), Halves(), heard) as (
        fit,
        engine,
    ):
        assert (fit.context, engine) == (context, LOADED)
    assert heard.lines == lines


def test_where_nothing_loads_the_last_error_says_what_to_type() -> None:
    error = short_of_memory(EngineDiedError("it died", hint="llmctl doctor"))
    with (
        pytest.raises(EngineDiedError, match="it died") as caught,
        lent(fit_for(None, context=1024), lambda fit: needs_at_most(fit, 1, error), Halves(), SilentListener()),
    ):
        pytest.fail("there is no engine")
    assert caught.value.hint == "llmctl run --context 512 …"


@pytest.mark.parametrize("steps", [Halves(), None])
def test_what_is_no_want_of_memory_is_raised_at_once(steps: Halves | None) -> None:
    error = EngineDiedError("it died") if steps else short_of_memory(EngineDiedError("it died"))
    heard = Heard()
    with (
        pytest.raises(EngineDiedError),
        lent(fit_for(None, context=1024), lambda fit: needs_at_most(fit, 1, error), steps, heard),
    ):
        pytest.fail("there is no engine")
    assert heard.lines == []


def test_a_failure_while_it_answers_is_nobodys_to_step_down_from() -> None:
    heard, error = Heard(), short_of_memory(EngineDiedError("it died"))
    with (
        pytest.raises(EngineDiedError),
        lent(fit_for(None), lambda fit: needs_at_most(fit, 9999, error), Halves(), heard),
    ):
        raise error
    assert heard.lines == []


REAL = """
import resource, sys
from pathlib import Path
from msgspec.structs import replace
from llmctl.endpoint.local import ask
from llmctl.engine.pool import Pool
from llmctl.router.lending import LowerFit, lent
from llmctl.types.event import Text
from llmctl.types.plan import Configuration
from llmctl.types.request import Request
from tests.fakes.fits import fit_for
from tests.router.test_lending import Halves, Heard
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
heard = Heard()
class Small(Halves):
    def below(self, fit):
        yield LowerFit(replace(fit, configuration=Configuration(512)), "512 tokens")
with Pool() as pool, lent(fit_for(Path(sys.argv[1]), context=8 << 20), pool.lease, Small(), heard) as (fit, engine):
    print("".join(piece.text for piece in ask(engine, Request.of("hi")) if isinstance(piece, Text)))
print(fit.context, *heard.lines, sep="\\n")
"""


def test_a_real_engine_whose_cache_has_no_room(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "model.gguf", ["The", " answer"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", REAL, str(file)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=100, check=True, env=environment)
    answer, context, warning = done.stdout.splitlines()
    assert (answer, context) == ("The answer", "512")
    assert "8.6 GB more could not be had" in warning and warning.endswith("it is tried with 512 tokens")
