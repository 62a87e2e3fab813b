"""``doctor --capture``: a bug report that is a regression test, tried with this machine."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
from pathlib import Path

import pytest

from llmctl.checks.capture import EXPECTED, capture, document
from llmctl.cli import main
from llmctl.errors import ResourceError, UsageError
from llmctl.host import Host
from llmctl.probe import probe
from llmctl.probe.recorded.recording import recorded


@pytest.mark.usefixtures("measured")
def test_this_machine_becomes_a_fixture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["doctor", "--capture", "captured"]) == 0
    assert "This machine is in captured" in capsys.readouterr().err
    folder = Path("captured")
    expected = json.loads((folder / EXPECTED).read_text())
    assert document(recorded(folder)) == expected  # what tests/probe/test_machines.py does with it
    probed = probe(Host(), store=tmp_path)
    again = expected["machine"]
    assert again["cpu"]["name"] == probed.cpu.name
    assert tuple(again["cpu"]["features"]) == probed.cpu.features
    assert again["memory"]["total_bytes"] == probed.memory.total_bytes
    assert again["os"] == probed.os
    assert again.get("container") == probed.container
    assert expected["engines"][0]["usable"]
    text = "\n".join(str(path) + (path.read_text() if path.is_file() else "") for path in folder.rglob("*"))
    names = {platform.node(), getpass.getuser(), str(Path.home()), "hf_secret"} - {"root", "localhost"}
    assert [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []
    assert main(["doctor", "--machine", str(folder / EXPECTED)]) == 0


def test_a_recorded_machine_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a recorded machine") as caught:
        capture(tmp_path, tmp_path)
    assert caught.value.hint == "llmctl doctor --capture NEW_DIRECTORY"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="can't be written"):
        capture(tmp_path / "file" / "folder", tmp_path)
    assert not os.path.isdir(tmp_path / "file")
