"""A run with a marked key, wherever it is kept: the key is in nothing that llmctl writes or says, nor in arguments."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.fakes.chat_server import DONE, ChatServer, Handler, event, status, stream
from tests.fakes.command import alone, llmctl

KEY = "sk-Marked-for-the-search-0123456789"
WRONG = status(401, {"error": {"message": f"wrong key {KEY}"}})
COMMANDS = (("run", "-e", "office", "--json", "hi"), ("run", "-e", "office", "hi"), ("endpoint", "list", "--json"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Beside the home that is searched."""
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("source", ["env", "file", "command"])
def test_the_key_is_nowhere(source: str, key_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[str] = []

    def answers(handler: Handler) -> None:
        for process in psutil.Process().children(recursive=True):
            arguments.extend(process.cmdline())
        stream(event("Hi", finish="stop"), DONE)(handler)

    options = {"env": "--key-env OFFICE_KEY", "file": f"--key-file {key_file}"}
    option = options[source].split() if source in options else ["--key-cmd", f"cat {key_file}"]
    if source == "env":
        monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(answers, answers, WRONG) as server:
        added = llmctl("endpoint", "add", "office", server.url, "-m", "m", "--readers", "me alone", *option)
        done = [alone(*command) for command in (*COMMANDS, COMMANDS[0])]
    assert [each.returncode for each in (added, *done)] == [0, 0, 0, 0, 9]
    assert [asked.headers["authorization"] for asked in server.requests] == [f"Bearer {KEY}"] * 3
    assert done[1].stderr.splitlines()[1] == "  who can read it there: me alone"
    assert KEY not in "".join(each.stdout + each.stderr for each in (added, *done))
    assert "run" in arguments and KEY not in "".join(arguments)
    written = [file for file in home.rglob("*") if file.is_file()]
    assert written and not [file for file in written if KEY.encode() in file.read_bytes()]
