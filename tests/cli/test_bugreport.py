"""`llmctl bugreport`: what is in it, what never is, and that it can be made where something is broken."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from llmctl import paths, settings
from llmctl.cli import main
from llmctl.types.endpoint import Endpoint, KeyVariable
from llmctl.workspace.scrub import Scrub
from tests.fakes.command import kill_engine_of, llmctl, spawn

pytestmark = pytest.mark.usefixtures("measured")

KEY = "sk-Secret-of-the-office-0123456789"
PROMPT = "Where did grandmother hide it"


def report(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["bugreport", "-"]) == 0
    return capsys.readouterr().out


def test_what_is_in_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings.set_values({"keep_alive": "5m"})
    monkeypatch.setenv("LLMCTL_TASK", "code")
    text = report(capsys)
    assert "llmctl 0" in text and "llama-cpp-python" in text and "Python 3" in text
    assert "keep_alive = 5m   (~/config/llmctl/config.toml)" in text
    assert "task = code   (LLMCTL_TASK)" in text
    _, _, rest = text.partition("## llmctl doctor\n\n```\n")
    document = json.loads(rest.partition("\n```")[0])
    assert set(document) == {"machine", "engines", "checks"}


def test_what_is_not(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with its key, a mirror with a password, private files, and the user's own names."""
    settings.add_endpoint(Endpoint("office", "https://llm.example.internal/v1", "big", KeyVariable("OFFICE_ACCESS")))
    settings.set_values({"policy": "local-only"})
    for name, value in {
        "OFFICE_ACCESS": KEY,
        "HF_TOKEN": "hf_0123456789abcdef",
        "HTTPS_PROXY": "http://me:hunter22@proxy.example:1",
        "LLMCTL_HUB_URL": "https://me:hunter22@mirror.example",
        "LLMCTL_PRIVATE_PATHS": str(home / "diary"),
        "LOGNAME": "grandmother",
    }.items():
        monkeypatch.setenv(name, value)
    text = report(capsys)
    for secret in (KEY, "hf_0123", "hunter22", "diary", "grandmother", "llm.example.internal", "office:", str(home)):
        assert secret not in text, secret
    assert "HF_TOKEN" in text and "HTTPS_PROXY" in text, "names alone"
    assert "endpoint server-1: https://server-1/v1, big, KeyVariable, set: True" in text
    assert "private_paths = (1 of them)" in text


def test_the_log_of_an_engine_that_was_killed_holds_no_prompt_and_no_answer(
    endless_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with spawn("run", "-m", str(endless_file), "--local", PROMPT) as process:
        kill_engine_of(process, after_s=1.0)
        answered, _ = process.communicate()
    assert b" w1 " in answered
    text = report(capsys)
    log = text.partition("## The last log of an engine that has failed")[2]
    assert ".log" in log and len(log.splitlines()) > 5
    assert PROMPT not in text and " w1 " not in text


def test_it_is_made_where_the_settings_are_broken(capsys: pytest.CaptureFixture[str]) -> None:
    file = paths.config_file()
    file.parent.mkdir(parents=True)
    file.write_text("keepalive = 1\n", "utf-8")
    text = report(capsys)
    assert "can't be told: ~/config/llmctl/config.toml: there is no setting named keepalive" in text
    assert '"machine"' in text


def test_it_is_one_file_of_its_owner_and_replaces_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugreport", "--json"]) == 0
    file = Path(json.loads(capsys.readouterr().out)["data"]["file"])
    assert file == home / "llmctl-bugreport.md"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main(["bugreport"]) == 2
    assert "next: llmctl bugreport --force llmctl-bugreport.md" in capsys.readouterr().err
    assert main(["bugreport", "/dev/null/file"]) == 7


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ada/models", "~/models"),
        ("ada's files, of adamant", "(the user)'s files, of adamant"),
        ("ask https://me:pw@llm.example/v1?key=1", "ask https://server-1/v1"),
        ("key sk-12345678", "key (taken out)"),
    ],
)
def test_words_alone_are_taken_out_and_secrets_anywhere(text: str, left: str) -> None:
    scrub = Scrub({"/home/ada": "~", "sk-12345678": "(taken out)"}, {"ada": "(the user)", "llm.example": "server-1"})
    assert scrub(text) == left


def test_the_version_names_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes.llama_server import fake_server

    server = fake_server(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{server.program.parent}:/usr/bin:/bin")
    lines = llmctl("--version").stdout.splitlines()
    assert lines[0].startswith("llmctl ") and "llama-cpp-python" in lines[0] and "CPU" in lines[0]
    assert lines[1].startswith("llama-server 9.8.7") and lines[1].endswith(str(server.program))
