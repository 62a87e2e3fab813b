"""How many users machines serve: found by planning, not by a formula."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmctl.cli.app import main

MACHINE = ("--machine", "vm-epyc-24gb")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["plan", *words, "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
    return data


@pytest.mark.parametrize(
    ("model", "words", "limited_by"),
    [("smollm2-1.7b-instruct", (), "speed"), ("qwen3-8b", ("--min-tok-s", "0.01"), "memory")],
)
def test_one_user_more_is_too_many(
    model: str, words: tuple[str, ...], limited_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = planned(capsys, model, *MACHINE, *words, "--users", "500", "--count", "2")
    served, choice = data["capacity"], data["choice"]
    most, floor = served["users"], served["floor_tok_s"]
    assert served["limited_by"] == limited_by and 1 <= most < 64
    assert served["machines"] == 2 and served["machines_needed"] == -(-500 // most)
    file = f"{model}:{choice['quant']}"
    asked = (file, *MACHINE, "--min-tok-s", "0", "--context", str(choice["context"]))
    if limited_by == "memory":
        assert main(["plan", *asked, "--users", str(most)]) == 0
        assert main(["plan", *asked, "--users", str(most + 1)]) == 3
        return
    for users, fast_enough in ((most, True), (most + 1, False)):
        speed = planned(capsys, *asked, "--users", str(users))["choice"]["speed"]
        assert ((speed["together_tok_s"] or speed["decode_tok_s"]) / users >= floor) == fast_enough


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "qwen3-8b", "--machine", "desktop-rtx-4090", "--users", "400", "--count", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "One machine answers" in said and "400 users take" in said and "not 3: more are needed from" in said
    assert "llmctl serve qwen3-8b --print ray --users 400 --count 3" in said


def test_nobody_is_served_where_it_is_too_slow_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "qwen3.6-27b", *MACHINE, "--users", "2", "--count", "9"]) == 0
    assert "writes for nobody at 8.0 tok/s" in " ".join(capsys.readouterr().out.split())


def test_more_than_one_machine_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *MACHINE, "--users", "65"]) == 2
    assert "64 at once at most, not 65" in capsys.readouterr().err
