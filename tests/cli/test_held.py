"""The beginning of a server's answer is held back for a moment, and nobody waits longer for it."""

from __future__ import annotations

import time

import pytest

from llmctl.cli.held import HeldBack
from llmctl.cli.output import Output
from llmctl.cli.story import Story
from llmctl.types.endpoint import Endpoint
from llmctl.types.event import Text


def test_it_is_written_after_the_time_although_nothing_else_comes() -> None:
    written: list[str] = []
    held = HeldBack(written.append, 0.1)
    held.add("Hel")
    held.add("lo")
    assert written == []
    deadline = time.monotonic() + 10
    while not written and time.monotonic() < deadline:
        time.sleep(0.01)
    assert written == ["Hello"]
    held.add(" you")
    assert written == ["Hello", " you"]
    assert held.take() is None


def test_what_is_taken_back_is_not_written() -> None:
    written: list[str] = []
    held = HeldBack(written.append, 60)
    held.add("secret plan")
    assert held.take() == "secret plan"
    held.add("The answer.")
    held.release()
    assert written == ["The answer."]


def test_the_end_does_not_wait() -> None:
    written: list[str] = []
    held = HeldBack(written.append, 60)
    held.add("Hello")
    held.release()
    assert written == ["Hello"]


def test_what_can_not_be_written_later_is_told_to_the_command() -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError

    held = HeldBack(broken, 0.01)
    held.add("Hello")
    with pytest.raises(BrokenPipeError):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.02)
            held.add("more")


@pytest.mark.parametrize(
    ("model", "at_once"), [("smollm2-135m", "Hello"), ("office-model", ""), ("Qwen/Qwen3.5-9B", "")]
)
def test_a_model_that_does_not_think_is_not_waited_for(
    model: str, at_once: str, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story(Output("run"), limited=False)
    story.leaving(Endpoint("office", "http://127.0.0.1:1/v1", model), "127.0.0.1:1", "you asked for it")
    story.event(Text("Hello"))
    assert capsys.readouterr().out == at_once
    story.end_line()
    assert capsys.readouterr().out.startswith("Hello"[len(at_once) :])
