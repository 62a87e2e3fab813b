"""`llmctl launch` as a person and a script meet it: real tools, or a program in the place of one that isn't here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmctl.workspace import engines, launch
from llmctl.workspace.programs import EngineAccess
from tests.contract.test_page import row
from tests.fakes.command import argv, document, llmctl
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")

ACCESS = EngineAccess("http://127.0.0.1:1/v1", "the key", 'a "model"', "Q4_0", 65_536, None, was_warm=True)
CHAT = [tool for tool in launch.tools().values() if tool.shape is launch.ApiShape.CHAT]


@pytest.fixture
def model(tmp_path: Path, home: Path) -> Iterator[str]:
    yield str(write_scripted(tmp_path / "tiny.gguf", ["The", " answer"], context=65_536))
    engines.stop(None)


@pytest.fixture
def programs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the tools that are installed: none."""
    place = home / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


def install(place: Path, name: str, script: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


def test_llm_answers_with_the_engine_and_leaves_nothing_behind(model: str, programs: Path, home: Path) -> None:
    install(programs, "llm", f'exec "{sys.executable}" -m llm "$@"')
    done = llmctl("launch", "llm", model, "--", "hi", "--no-log")
    assert (done.returncode, done.stdout) == (0, "The answer\n"), done.stderr
    assert "llm has tiny " in done.stderr
    assert not list((home / "config").glob("**/io.datasette.llm*"))


def test_the_tool_has_its_arguments_environment_and_exit_code(model: str, programs: Path, home: Path) -> None:
    install(programs, "goose", 'echo "$@"; env > "$HOME/seen"; cat; exit 7')
    done = llmctl("launch", "goose", model, "--yes", "--", "run", "-t", "two words", stdin="from stdin")
    assert (done.returncode, done.stdout) == (7, "run -t two words\nfrom stdin"), done.stderr
    seen = dict(line.split("=", 1) for line in (home / "seen").read_text().splitlines() if "=" in line)
    assert (seen["GOOSE_PROVIDER"], seen["GOOSE_MODEL"], seen["HOME"]) == ("openai", "tiny", str(home))
    assert seen["OPENAI_HOST"].startswith("http://127.0.0.1:") and not seen["OPENAI_HOST"].endswith("/v1")
    assert len(seen["OPENAI_API_KEY"]) > 20 and seen["OPENAI_API_KEY"] not in done.stderr


def test_the_engine_stays_while_the_tool_runs_and_ctrl_c_is_the_tools(model: str, programs: Path, home: Path) -> None:
    install(programs, "aider", "trap 'echo heard; exit 3' INT; echo runs > \"$HOME/runs\"; while :; do sleep 0.1; done")
    command = argv("launch", "aider", model, "--yes")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (home / "runs").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)  # longer than the engine stays without a user
        (engine,) = engines.staying()
        assert engine.users == 1
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, b"heard\n"), err
    assert b"Traceback" not in err


def test_a_dry_run_shows_it_all_but_the_key_and_starts_nothing(model: str, programs: Path) -> None:
    done = llmctl("launch", "opencode", model, "--dry-run", "--", "run", "it's")
    assert done.returncode == 0, done.stderr
    assert "warning: opencode is not installed: npm install -g opencode-ai" in done.stderr
    first, second, last = done.stdout.splitlines()
    assert (first, last) == ("LOCAL_ENGINE_KEY='***' \\", "opencode run 'it'\"'\"'s'")
    assert second.startswith("OPENCODE_CONFIG_CONTENT='{")
    made = document(llmctl("launch", "opencode", model, "--dry-run", "--json"))["data"]
    assert set(made) == row("launch --dry-run")
    assert (made["program"], made["model"], made["context"]) == (None, "tiny", 65_536)
    assert engines.staying() == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("claude",), 4, "Claude Code is not installed"),
        (("claude", "--dry-run"), 2, "Claude Code speaks Anthropic's messages API, which a gateway answers, and none"),
        (("codex", "m", "--dry-run"), 2, "next: llmctl serve --detach --context 65536 m"),
        (("aidr",), 4, "llmctl knows no tool named 'aidr'; did you mean aider?"),
        (
            ("open-webui",),
            4,
            "there is no open-webui on PATH\n  next: pip install open-webui",
        ),
        (("llm", "m", "more"), 2, "unexpected extra argument"),
        (("llm", "--json"), 2, "--json goes with --dry-run"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], code: int, says: str, home: Path) -> None:
    done = llmctl("launch", *arguments, PATH="/nowhere")
    assert done.returncode == code
    assert says in done.stderr + done.stdout


def test_too_little_context_for_an_agent(tmp_path: Path, home: Path) -> None:
    small = str(write_scripted(tmp_path / "small.gguf", ["a"], context=4096))
    done = llmctl("launch", "goose", small, "--dry-run")
    assert done.returncode == 3
    assert "handles 4,096 tokens of context, the prompt has about 24,000" in done.stderr


def planned_for_opencode(model: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Any]:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made: dict[str, Any] = document(llmctl("launch", "opencode", model, "--dry-run", "--json"))["data"]
    return made


def test_what_is_no_use_as_an_agent_is_not_recommended(
    model: str, programs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planned_for_opencode(model, monkeypatch)["recommended"]
    assert re.fullmatch(
        r"has a quality of -?\d+; for agent a model is of use from 45.*",
        planned_for_opencode("lfm2.5-350m", monkeypatch)["why"],
    )
    slow = planned_for_opencode(model, monkeypatch, LLMCTL_MIN_TOK_S="1000000")["why"]
    assert re.fullmatch(
        r"fits, but would write .* tok/s, the floor is 1000000: "
        r"a first turn would take .*, .* of it for a prompt of 24,000 tokens",
        slow,
    )
    install(programs, "opencode", 'touch "$HOME/ran"')
    done = llmctl("launch", "opencode", model)
    assert done.returncode == 3
    assert "error: NOT RECOMMENDED for opencode: scripted F32 fits, but would write" in done.stderr
    assert "or add --yes" in done.stderr
    assert not (home / "ran").exists()
    assert llmctl("launch", "opencode", model, "--yes").returncode == 0
    assert (home / "ran").exists()


@pytest.mark.parametrize("tool", CHAT, ids=lambda tool: tool.name)
def test_a_tools_start(tool: launch.LaunchedTool) -> None:
    """The key is in variables alone, and what is JSON stays JSON whatever the model is called."""
    made = launch.start(tool, ACCESS, (), "/folder")
    assert made.argv[0] == tool.program
    assert not any(ACCESS.api_key in text for text in (*made.argv, *made.files.values()))
    assert sum(value == ACCESS.api_key for value in made.environment.values()) == 1
    shown = [*made.argv, *made.environment.values(), *made.files.values()]
    assert any("http://127.0.0.1:1" in text for text in shown)
    for text in shown:
        if text.startswith(("{", "[")):
            assert 'a "model"' in json.dumps(json.loads(text), ensure_ascii=False).replace('\\"', '"')
    assert launch.start(tool, ACCESS, ("--help",), "/folder").argv[-1] == "--help"
    assert tool.source.startswith("https://")
