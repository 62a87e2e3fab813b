"""Conversations that are kept: where, for whom, and what becomes of a file that others have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl.errors import AccessError, IntegrityError, LlmctlError, NotFoundError, UsageError
from llmctl.settings import Settings, load
from llmctl.workspace import kept_conversations
from llmctl.workspace.conversation import Conversation, Turn
from llmctl.workspace.kept_conversations import MOST_KEPT, Keeper, folder, forget, last, prompts_file
from llmctl.workspace.transcript import Begun

SAID = Conversation("Sei kurz.", (Turn("שלום", "grüß dich"),))
BEGUN = Begun("tiny", "code", local=True)


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LLMCTL_CHAT_HISTORY", "1")
    return load()


def files() -> list[Path]:
    return sorted(folder().iterdir())


def test_what_is_kept_goes_on_and_nobody_else_reads_it(settings: Settings) -> None:
    keeper = Keeper()
    keeper.keep(SAID, BEGUN)
    keeper.keep(SAID.with_turn(Turn("x", "y")), BEGUN)
    (file,) = files()
    assert (file.stat().st_mode & 0o777, folder().stat().st_mode & 0o777) == (0o600, 0o700)
    kept = last(settings)
    assert (kept.file, kept.transcript.begun) == (file, BEGUN)
    assert [turn.prompt for turn in kept.transcript.conversation.turns] == ["שלום", "x"]
    Keeper(kept).keep(SAID, BEGUN)
    assert files() == [file]
    assert last(settings).transcript.conversation == SAID


def test_the_last_is_the_one_that_went_on_last(settings: Settings) -> None:
    first, second = Keeper(), Keeper()
    first.keep(SAID, Begun())
    second.keep(SAID.with_turn(Turn("other", "y")), Begun())
    first.keep(SAID.with_turn(Turn("this", "y")), Begun())
    assert last(settings).transcript.conversation.turns[-1].prompt == "this"
    second.begin_anew()
    second.keep(SAID, Begun())
    assert len(files()) == 3


def test_without_the_setting_none_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="no conversation has been kept"):
        last(settings)
    Keeper().keep(SAID, Begun())
    monkeypatch.setenv("LLMCTL_CHAT_HISTORY", "0")
    with pytest.raises(UsageError, match="chat_history is off"):
        last(load())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", IntegrityError),
        ('{"format": "other/1"}', IntegrityError),
        ('{"format": "llmctl-conversation/1", "turns": [{"prompt": 1}]}', IntegrityError),
        ('{"format": "llmctl-conversation/1", "begun": {"endpoint": "desk"}}', IntegrityError),
        (None, AccessError),  # a link to a file elsewhere
    ],
)
def test_a_file_that_llmctl_has_not_written_is_refused_and_stays(
    settings: Settings, tmp_path: Path, text: str | None, error: type[LlmctlError]
) -> None:
    Keeper().keep(SAID, Begun())
    (file,) = files()
    if text is None:
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text(text)
    before = file.read_bytes()
    with pytest.raises(error, match=str(file)):
        last(settings)
    assert file.read_bytes() == before
    Keeper().keep(SAID, Begun())
    assert last(settings).transcript.conversation == SAID


def test_two_that_go_on_with_the_same_lose_nothing(settings: Settings) -> None:
    Keeper().keep(SAID, Begun())
    one, other = Keeper(last(settings)), Keeper(last(settings))
    one.keep(SAID.with_turn(Turn("one", "y")), Begun())
    other.keep(SAID.with_turn(Turn("other", "y")), Begun())
    assert len(files()) == 2
    assert b"one" in files()[0].read_bytes() + files()[1].read_bytes()
    assert last(settings).transcript.conversation.turns[-1].prompt == "other"


def test_what_was_deleted_meanwhile_is_not_written_again(settings: Settings) -> None:
    keeper = Keeper()
    keeper.keep(SAID, Begun())
    forget()
    with pytest.raises(NotFoundError):
        keeper.keep(SAID, Begun())
    assert not folder().exists()


def test_the_oldest_goes_where_there_are_too_many(settings: Settings) -> None:
    folder().mkdir(parents=True)
    for number in range(MOST_KEPT):
        (folder() / f"{number:03}.json").write_text("{}")
        os.utime(folder() / f"{number:03}.json", (1000 + number, 1000 + number))
    Keeper().keep(SAID, Begun())
    assert len(files()) == MOST_KEPT
    assert not (folder() / "000.json").exists()
    assert (folder() / "001.json").exists()


def test_forgetting_deletes_everything_and_says_how_much(settings: Settings) -> None:
    assert kept_conversations.forget() == kept_conversations.Forgotten(0, 0, 0)
    for _ in range(2):
        Keeper().keep(SAID, Begun())
    prompts_file().write_text("\n# 2026-11-30 12:00:00\n+# first\n+line\n\n# 2026-11-30 12:00:01\n+second\n")
    (folder() / ".1234.new").write_text("half a conversation")
    size_bytes = sum(file.stat().st_size for file in (*files(), prompts_file()))
    assert kept_conversations.forget() == kept_conversations.Forgotten(2, 2, size_bytes)
    assert not (folder().exists() or prompts_file().exists())
