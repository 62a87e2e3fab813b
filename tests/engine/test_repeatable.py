"""What is asked with a seed is computed to the bit as it is alone, with tiny models of each kind of memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import llama_cpp
import numpy as np
import pytest

from llmctl.engine.llama_cpp.batching import Scheduler
from llmctl.engine.llama_cpp.context import Context
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.request import read
from llmctl.engine.llama_cpp.sampling import Sampler
from tests.engine.test_context import TINY, context_of, plain, recurrent, windowed

PROMPT = [5 + 7 * at % (TINY.n_vocab - 5) for at in range(150)]
WANTED = 12


class Recorder:
    """Draws the same tokens each time and keeps the ``logits`` that it was given for them."""

    def __init__(self) -> None:
        self.logits: list[bytes] = []

    def sample(self, context: Any, row: int) -> int:
        pointer = llama_cpp.llama_get_logits_ith(context, row)
        self.logits.append(np.ctypeslib.as_array(pointer, shape=(TINY.n_vocab,)).tobytes())
        return 7 + len(self.logits)

    def close(self) -> None:
        pass


def generation(prompt: list[int], recorder: Recorder, *, is_repeatable: bool) -> Generation:
    return Generation(
        prompt,
        cast(Sampler, recorder),
        lambda token: len(recorder.logits) < WANTED,
        lambda error: None,
        uses_cache=not is_repeatable,
        is_repeatable=is_repeatable,
    )


def logits(context: Context, neighbours: int, *, is_repeatable: bool) -> list[bytes]:
    """Of an answer beside so many others, which read and write while it does."""
    scheduler, recorder = Scheduler(context, 4, clock=iter(np.arange(0.0, 1e4, 0.05)).__next__), Recorder()
    for at in range(neighbours):
        scheduler.submit([generation(PROMPT[at : 30 * at + 20], Recorder(), is_repeatable=at == 2)])
        scheduler.step()
    scheduler.submit([generation(PROMPT, recorder, is_repeatable=is_repeatable)])
    while scheduler.idle_s == 0:
        scheduler.step()
    return recorder.logits


@pytest.mark.parametrize("make", [plain, windowed, recurrent])
def test_whatever_else_is_computed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    context = context_of(make(tmp_path / "model.gguf"), 4)
    alone = logits(context, 0, is_repeatable=True)
    assert len(alone) == WANTED
    for neighbours in (1, 2, 3):
        assert logits(context, neighbours, is_repeatable=True) == alone, neighbours


@pytest.mark.parametrize("make", [windowed, recurrent])
def test_without_a_seed_it_is_rounded_as_it_comes(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    context = context_of(make(tmp_path / "model.gguf"), 4)
    assert logits(context, 1, is_repeatable=False) != logits(context, 0, is_repeatable=False)


@pytest.mark.parametrize(
    ("fields", "is_repeatable"),
    [({}, False), ({"temperature": 0}, False), ({"seed": 0}, True), ({"seed": 1, "speculate": True}, False)],
)
def test_who_asks_for_it(fields: Mapping[str, Any], is_repeatable: bool) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    assert read(json.dumps(body).encode()).is_repeatable is is_repeatable
