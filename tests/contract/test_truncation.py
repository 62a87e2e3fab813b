"""Prompts that are too long for a real engine: refused with both numbers, or shortened where that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.command import llmctl
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.mark.parametrize(
    ("options", "words", "code", "said"),
    [
        ((), 400, 2, "the prompt is at least 401 tokens, local context is 256"),
        ((), 200, 2, "tokens, local context is 256"),
        (("--truncate", "tail"), 200, 0, "of 399 characters are dropped, the tail of what stands before the question"),
    ],
)
def test_a_long_prompt(options: tuple[str, ...], words: int, code: int, said: str, tmp_path: Path) -> None:
    model = write_scripted(tmp_path / "tiny.gguf", ["Yes", " indeed"])
    stdin = " ".join("a" * words)
    done = llmctl("run", "-m", str(model), "--context", "256", *options, "what?", stdin=stdin)
    assert (done.returncode, done.stdout) == (code, "" if code else "Yes indeed\n"), done.stderr
    assert said in done.stderr
    loaded = "loaded in" in done.stderr
    assert loaded is (words <= 256), "what is surely too long is refused before a model is loaded"
