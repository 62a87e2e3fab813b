"""Conversations as files: what was saved is loaded again, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl.errors import IntegrityError, LlmctlError, NotFoundError, ResourceError
from llmctl.workspace import transcript
from llmctl.workspace.conversation import Conversation, Turn

SAID = Conversation(
    "Sei kurz.", (Turn("שלום 你好", "grüß dich"), Turn("x", "y", whole=False, endpoint="desk")), 1, "Worum es ging."
)


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "gespräch.json"
    file.write_text("older")
    transcript.save(file, SAID)
    assert file.stat().st_mode & 0o777 == 0o600
    assert transcript.load(file) == SAID


MADE = '{"format": "llmctl-conversation/1", '


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "\x00",
        "[" * 99999,
        '{"format": "other/1"}',
        MADE + '"turns": 3}',
        MADE + '"turns": [{"prompt": 1}]}',
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(IntegrityError, match=str(file)):
        transcript.load(file)


@pytest.mark.parametrize(("name", "error"), [("missing", NotFoundError), (".", ResourceError)])
def test_a_place_without_a_file(tmp_path: Path, name: str, error: type[LlmctlError]) -> None:
    with pytest.raises(error):
        transcript.load(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="can't be written"):
        transcript.save(tmp_path / "file", SAID)
