"""Streams of servers that leave the thoughts in the text, as the command answers with them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.chat_server import DONE, ChatServer, Reply, event, stream
from tests.fakes.command import llmctl

FIXTURES = Path(__file__).parents[1] / "fixtures" / "thoughts"
LONE_CLOSE = ("secret ", "plan", "</think>", "The ", "answer.")


def asked(reply: Reply, *words: str, model: str = "m") -> subprocess.CompletedProcess[str]:
    with ChatServer(reply) as server:
        llmctl("endpoint", "add", "case", server.url, "--model", model, "--force")
        return llmctl("run", "-e", "case", *words, "hi")


def letter_by_letter(text: str) -> list[bytes]:
    return [event(letter) for letter in text]


def events_of(bits: Sequence[str]) -> list[bytes]:
    return [*(event(bit) for bit in bits), event(finish="stop"), DONE]


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("*.sse")), ids=lambda file: file.stem)
def test_thoughts_are_kept_apart_and_no_mark_anywhere(file: Path) -> None:
    """Off a terminal nobody sees them; the document has them."""
    done = asked(stream(file.read_bytes()))
    assert (done.returncode, done.stdout) == (0, "The answer.\n")
    assert "secret plan" not in done.stderr
    whole = asked(stream(file.read_bytes()), "--json")
    answer = json.loads(whole.stdout)["data"]
    assert (answer["text"], answer["reasoning"].strip()) == ("The answer.", "secret plan")
    said = done.stdout + done.stderr + answer["text"] + answer["reasoning"] + whole.stderr
    assert not any(mark in said for mark in ("<|", "|>", "think>", "THINK]", "thought"))


def test_marks_that_come_letter_by_letter() -> None:
    text = "<|channel|>analysis<|message|>secret plan<|end|><|start|>assistant<|channel|>final<|message|>The answer."
    done = asked(stream(*letter_by_letter(text), event(finish="stop"), DONE), "--json")
    answer = json.loads(done.stdout)["data"]
    assert (answer["text"], answer["reasoning"]) == ("The answer.", "secret plan")


@pytest.mark.parametrize("model", ["m", "deepseek-r1"])
def test_only_the_closing_mark_comes(model: str) -> None:
    done = asked(stream(*events_of(LONE_CLOSE)), "--json", model=model)
    answer = json.loads(done.stdout)["data"]
    assert (answer["text"], answer["reasoning"]) == ("The answer.", "secret plan")


def test_a_mark_that_is_part_of_the_answer_stays() -> None:
    said = "The tag `</think>` ends it:\n```\n<think>a</think>\n```\n"
    done = asked(stream(*events_of([said[:9], said[9:]])))
    assert done.stdout == said
