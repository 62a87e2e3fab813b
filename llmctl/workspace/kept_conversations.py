"""Conversations that are kept on disk for ``-c``, where the setting chat_history asks for it: a folder that only its
owner may read, a file for each. A private conversation is never written."""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.errors import AccessError, NotFoundError, ResourceError, UsageError
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.workspace import transcript
from llmctl.workspace.conversation import Conversation
from llmctl.workspace.transcript import Begun, Transcript

MOST_KEPT = 500
SUFFIX = ".json"


def folder() -> Path:
    """Where conversations are kept."""
    return paths.data_dir() / "conversations"


def prompts_file() -> Path:
    """Where the prompts of chats are kept for the Up key."""
    return paths.data_dir() / "chat_history"


class Kept(Struct, frozen=True):
    """A conversation that is kept. ``data`` is what its file held when it was read or written."""

    file: Path
    data: bytes
    transcript: Transcript


def last(settings: Settings) -> Kept:
    """The conversation that went on last. Raises UsageError where none is kept by the settings, NotFoundError where
    there is none yet, AccessError for a file of somebody else, and what reading it raises: the file stays."""
    if not settings.chat_history:
        raise UsageError(
            "no conversation is kept, since the setting chat_history is off: there is none to go on with",
            hint=f"export LLMCTL_CHAT_HISTORY=1   or chat_history = true on top of {command(paths.config_file())}",
        )
    file = max(_files(), key=_changed, default=None)
    if file is None:
        raise NotFoundError("no conversation has been kept yet", hint="llmctl chat")
    _require_own(file)
    data = transcript.read(file)
    return Kept(file, data, transcript.parsed(file, data))


class Keeper:
    """Keeps one conversation on disk as it goes on."""

    def __init__(self, kept: Kept | None = None) -> None:
        """``kept`` is the conversation that goes on; without one, a file is made at the first turn."""
        self._file = None if kept is None else kept.file
        self._data = None if kept is None else kept.data

    def begin_anew(self) -> None:
        """What is kept from now on is another conversation."""
        self._file = self._data = None

    def keep(self, conversation: Conversation, begun: Begun) -> None:
        """Writes the conversation. One that somebody else went on with meanwhile stays as it is, and this one gets a
        file of its own. Raises ResourceError, and NotFoundError where the conversation was deleted meanwhile."""
        if self._file is None or transcript.read(self._file) != self._data:
            self._file = _new_file()
        data = transcript.content(Transcript(conversation, begun))
        transcript.write(self._file, data)
        self._data = data


class Forgotten(Struct, frozen=True):
    """What was deleted."""

    conversations: int
    prompts: int
    bytes: int


def forget() -> Forgotten:
    """Deletes all conversations and prompts that are kept. Raises ResourceError for what can't be deleted."""
    conversations, size_bytes = _files(), 0
    prompts = _prompts(prompts_file())
    for file in (*conversations, *folder().glob(".*.new"), prompts_file()):
        size_bytes += _delete(file)
    with suppress(OSError):
        folder().rmdir()
    return Forgotten(len(conversations), prompts, size_bytes)


def _files() -> list[Path]:
    return [file for file in folder().glob("*" + SUFFIX) if not file.name.startswith(".")]


def _changed(file: Path) -> tuple[int, str]:
    try:
        return file.lstat().st_mtime_ns, file.name
    except OSError:  # another command has deleted it
        return 0, file.name


def _require_own(file: Path) -> None:
    """Raises AccessError for a link, and for a file that another user has put there; NotFoundError."""
    try:
        state = file.lstat()
    except OSError as error:
        raise NotFoundError(f"{file} is not there") from error
    is_own = not hasattr(os, "geteuid") or state.st_uid == os.geteuid()
    if not (stat.S_ISREG(state.st_mode) and is_own):
        raise AccessError(f"{file} is no file of yours: it is not read", hint="llmctl chat   begins a new conversation")


def _new_file() -> Path:
    """A place for one more conversation; the oldest one goes where there are MOST_KEPT."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder()} can't be made: {error.strerror or error}") from error
    for file in sorted(_files(), key=_changed)[: -MOST_KEPT + 1]:
        _delete(file)
    return folder() / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{secrets.token_hex(3)}{SUFFIX}"


def _prompts(file: Path) -> int:
    """How many prompts are in the file for the Up key: each begins with a line of its time."""
    try:
        with file.open("rb") as lines:
            return sum(line.startswith(b"# ") for line in lines)
    except OSError:
        return 0


def _delete(file: Path) -> int:
    """How many bytes that frees. Raises ResourceError."""
    try:
        size_bytes = file.lstat().st_size
        file.unlink()
        return size_bytes
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ResourceError(f"{file} can't be deleted: {error.strerror or error}") from error
