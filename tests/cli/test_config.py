"""``llmctl config``: what the settings are, where they come from, and changing the user's own file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llmctl import paths
from llmctl.cli.app import main
from llmctl.settings import SETTINGS
from tests.fakes.terminal import Terminal

COMMENTED = '# mine\nkeep_alive = "5m"  # for the evening\n'


def written(text: str) -> Path:
    file = paths.config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def data(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main([*words, "--json"]) == 0
    shown: dict[str, object] = json.loads(capsys.readouterr().out)["data"]
    return shown


def test_each_setting_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written('keep_alive = "5m"\ntask = "code"\nhub_url = "https://me:secret@mirror.example"\n')
    Path("llmctl.toml").write_text("context = 512\n", "utf-8")
    monkeypatch.setenv("LLMCTL_TASK", "chat")
    assert main(["config", "list"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"setting", *(setting.name for setting in SETTINGS)}
    assert lines["keep_alive"] == ["5m", str(file)]
    assert lines["task"] == ["chat", "LLMCTL_TASK"]
    assert lines["context"] == ["512", "llmctl.toml"]
    assert lines["policy"] == ["local-only", "default"]
    assert lines["model"] == ["-", "default"]
    assert "secret" not in str(lines) and "mirror.example" in str(lines["hub_url"])


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("keep_alive", "10m", 'keep_alive = "10m"'),
        ("keep_alive", "-1", 'keep_alive = "-1"'),
        ("context", "4096", "context = 4096"),
        ("offline", "yes", "offline = true"),
        ("min_tok_s", "7.5", "min_tok_s = 7.5"),
        ("policy", "local-only", 'policy = "local-only"'),
        ("prompt_cache", "2GB", 'prompt_cache = "2GB"'),
    ],
)
def test_it_is_written_beside_what_stands_there(
    name: str, value: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(COMMENTED)
    assert main(["config", "set", name, value]) == 0
    text = file.read_text("utf-8")
    assert line in text and text.startswith("# mine\n") and "# for the evening" in text
    capsys.readouterr()
    assert main(["config", "get", name]) == 0
    assert capsys.readouterr().out.strip() == line.partition(" = ")[2].strip('"')
    assert main(["config", "unset", name]) == 0
    assert line not in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set", "keepalive", "5m"), "there is no setting named keepalive; did you mean keep_alive?"),
        (("get", "keepalive"), "there is no setting named keepalive; did you mean keep_alive?"),
        (("unset", "keepalive"), "there is no setting named keepalive; did you mean keep_alive?"),
        (
            ("set", "context", "many"),
            "context can't be 'many', it must be a whole number of tokens",
        ),
        (("set", "context", "-5"), "context can't be '-5', it must be a whole number of tokens"),
        (("set", "task", "cod"), "translate, extract, vision, embed, rerank; did you mean code?"),
        (("set", "hub_url", "ftp://me:secret@h"), "it must be an http or https address"),
        (("unset", "endpoints"), "endpoints are servers of yours"),
    ],
)
def test_what_can_not_be(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(COMMENTED)
    assert main(["config", *words]) == 2
    said = capsys.readouterr().err
    assert says in said and "secret" not in said
    assert file.read_text("utf-8") == COMMENTED


def test_what_decides_all_the_same_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_TASK", "chat")
    changed = data(capsys, "config", "set", "task", "code")
    assert changed == {"name": "task", "file": str(paths.config_file()), "decided_by": "LLMCTL_TASK"}


def test_a_name_that_is_in_the_way_can_be_taken_out(capsys: pytest.CaptureFixture[str]) -> None:
    written('keepalive = "5m"\n')
    assert main(["config", "list"]) == 10
    assert main(["config", "unset", "keepalive"]) == 0
    assert main(["config", "list"]) == 0


def test_a_setting_that_is_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "get", "model"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["config", "unset", "model"]) == 0
    assert "model was not set" in capsys.readouterr().err
    assert not paths.config_file().exists()


def test_editing_takes_a_terminal_and_an_editor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "edit"]) == 2
    assert str(paths.config_file()) in capsys.readouterr().err


EDITOR = """import sys, pathlib
file = pathlib.Path(sys.argv[1])
text = file.read_text()
file.write_text(text.replace("keepalive", "keep_alive") if "keepalive" in text else text + 'keepalive = "5m"')
"""


@pytest.mark.parametrize(("answer", "code", "stands"), [("y\n", 0, 'keep_alive = "5m"'), ("n\n", 10, "")])
def test_editing(answer: str, code: int, stands: str, tmp_path: Path) -> None:
    """The first edit makes a setting that there is none of, the second mends it."""
    file = written("# mine\n")
    editor = tmp_path / "editor.py"
    editor.write_text(EDITOR, "utf-8")
    with Terminal("config", "edit", EDITOR=f"{sys.executable} {editor}") as terminal:
        terminal.see(r"no\s+setting\s+named\s+keepalive")
        terminal.see("Edit it again")
        assert file.read_text("utf-8") == "# mine\n"
        terminal.send(answer)
        assert terminal.ended() == code
    assert file.read_text("utf-8") == f"# mine\n{stands}"
