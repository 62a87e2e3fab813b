"""`run --keep-alive`, `ps` and `stop` as scripts meet them: real processes, one model that stays."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmctl import paths
from llmctl.cli.complete import staying
from llmctl.engine.warm.process import started
from llmctl.workspace import engines
from tests.fakes.command import argv, document, llmctl
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def model(tmp_path: Path, home: Path) -> Iterator[str]:
    yield str(write_scripted(tmp_path / "tiny.gguf", ["The", " answer"]))
    engines.stop(None)


def run(model: str, *options: str) -> dict[str, Any]:
    done = llmctl("run", "-m", model, "--json", *options, "hi")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = document(done)["data"]
    return made


def test_a_model_that_stays_and_is_ended(model: str) -> None:
    assert engines.staying() == []
    first = run(model, "--keep-alive", "5m")
    (engine,) = engines.staying()
    second = run(model)
    assert (engine.pid,) == tuple(one.pid for one in engines.staying())
    assert first["text"] == second["text"] == "The answer"
    assert second["timings"]["load_s"] < first["timings"]["load_s"]
    told = llmctl("run", "-m", model, "hi").stderr
    assert "· already loaded" in told

    done = llmctl("ps")
    heads, row = done.stdout.splitlines()
    assert heads.split() == ["model", "engine", "memory", "users", "context", "idle", "ends", "in"]
    assert re.search(r"^tiny \S+ +llama-cpp-python +\d+ [kM]B +0 of [1-4] .*", row)
    (listed,) = document(llmctl("ps", "--json"))["data"]["engines"]
    assert listed["pid"] == engine.pid
    assert 0 < listed["memory_bytes"] < 1 << 30
    assert 0 < listed["ends_in_s"] <= listed["keep_alive_s"] == 300
    assert set(listed) == {
        "model", "quant", "engine", "pid", "memory_bytes", "context", "users", "sequences", "idle_s", "keep_alive_s",
        "ends_in_s", "address",
    }  # fmt: skip
    assert staying("ti") == [engine.name]

    done = llmctl("stop", "nonesuch")
    assert done.returncode == 4
    assert done.stderr == f"error: nonesuch is not loaded; what is: {engine.name}\n  next: llmctl ps\n"
    assert document(llmctl("stop", engine.name, "--json"))["data"]["stopped"][0]["pid"] == engine.pid
    assert started(engine.pid) is None
    assert llmctl("ps").stdout == ""
    assert llmctl("stop", "--all").returncode == 0


def test_what_is_kept_of_prompts_is_forgotten(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_PROMPT_CACHE", "1GB")
    prompt = "word " * 300
    folder = paths.cache_dir() / "prompts"
    assert llmctl("run", "-m", model, "--private", prompt).returncode == 0
    assert not folder.exists()
    assert llmctl("run", "-m", model, "--keep-alive", "5m", prompt).returncode == 0
    (file,) = folder.glob("*")
    size = file.stat().st_size
    made = document(llmctl("stop", "--forget", "--json"))["data"]
    assert (len(made["stopped"]), made["forgotten_bytes"]) == (1, size)
    assert engines.staying() == [] and not file.exists()
    assert "Nothing of prompts was kept on disk." in llmctl("stop", "--forget").stderr


@pytest.mark.parametrize(
    "arguments",
    [("stop",), ("stop", "tiny", "--all"), ("stop", "tiny", "--forget"), ("run", "--keep-alive", "soon", "hi")],
)
def test_what_is_not_said_well_enough(arguments: tuple[str, ...]) -> None:
    assert llmctl(*arguments).returncode == 2


def test_a_pipe_ends_although_the_engine_stays(model: str) -> None:
    command = argv("run", "-m", model, "--keep-alive", "5m", "hi")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout == "The answer\n"
    (engine,) = engines.staying()
    assert psutil.pid_exists(engine.pid)


def test_the_setting(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_KEEP_ALIVE", "-1")
    run(model)
    (engine,) = engines.staying()
    assert (engine.keep_alive_s, engine.ends_in_s) == (None, None)
    monkeypatch.setenv("LLMCTL_KEEP_ALIVE", "soon")
    done = llmctl("run", "hi")
    assert done.returncode == 10
    assert "LLMCTL_KEEP_ALIVE is 'soon', it must be 30s, 5m, 1h, 0 for not at all, or -1 for ever" in done.stderr


def test_who_uses_it_is_counted(model: str) -> None:
    run(model, "--keep-alive", "5m")
    holder = (
        "import sys, time; from pathlib import Path; from llmctl.engine.warm import entry; "
        "held = entry.use(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    (path,) = (Path(os.environ["XDG_RUNTIME_DIR"]) / "llmctl").glob("*.json")
    with subprocess.Popen([argv()[0], "-c", holder, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (used,) = engines.staying()
        process.kill()
    assert (used.users, used.idle_s, used.ends_in_s) == (1, 0.0, None)
    deadline = time.monotonic() + 10
    while engines.staying()[0].users and time.monotonic() < deadline:
        time.sleep(0.05)
    assert engines.staying()[0].users == 0
