"""Conversations as files: JSON that only its owner may read, written when the user says so and never otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import IntegrityError, NotFoundError, ResourceError
from llmctl.files import atomic
from llmctl.files.decode import FieldError, decode
from llmctl.workspace.conversation import Conversation

FORMAT = "llmctl-conversation/1"
LIMIT_BYTES = 64 << 20


class Begun(Struct, frozen=True):
    """What a conversation was begun with, and goes on with unless something else is asked for: the model and the task
    that were named, and whether nothing but this machine may answer."""

    model: str | None = None
    task: str | None = None
    local: bool = False

    def going_on(self, model: str | None, task: str | None, *, local: bool) -> Begun:
        """The same, but for what is named now: another model or task stands for both."""
        local = local or self.local
        return Begun(_lasting(model), task, local) if model or task else replace(self, local=local)


class Transcript(Struct, frozen=True):
    """A conversation as its file has it."""

    conversation: Conversation
    begun: Begun = Begun()


def _lasting(model: str | None) -> str | None:
    """A name that means the same in every folder."""
    is_file = model is not None and os.path.isfile(model)  # noqa: PTH113  pathlib's raises on long names
    return str(Path(model).absolute()) if model is not None and is_file else model


def save(file: Path, conversation: Conversation) -> None:
    """Writes all turns, the dropped ones too, in the place of what ``file`` holds. Raises ResourceError."""
    write(file, content(Transcript(conversation)))


def content(transcript: Transcript) -> bytes:
    """What a file of ``transcript`` holds."""
    document = {"format": FORMAT, **msgspec.to_builtins(transcript.conversation)}
    document["begun"] = msgspec.to_builtins(transcript.begun)
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def write(file: Path, data: bytes) -> None:
    """Raises ResourceError."""
    try:
        atomic.write(file, data)
    except OSError as error:
        raise ResourceError(f"{file} can't be written: {error.strerror or error}") from error


def load(file: Path) -> Conversation:
    """Raises what ``read`` and ``parsed`` raise."""
    return parsed(file, read(file)).conversation


def read(file: Path) -> bytes:
    """Raises NotFoundError and ResourceError."""
    try:
        with file.open("rb") as stream:
            return stream.read(LIMIT_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"{file} is not there") from error
    except OSError as error:
        raise ResourceError(f"{file} can't be read: {error.strerror or error}") from error


def parsed(file: Path, data: bytes) -> Transcript:
    """What ``data`` of ``file`` says. Raises IntegrityError for what ``content`` has not made."""
    try:
        document: Any = json.loads(data)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise IntegrityError(f"{file} is no conversation that llmctl has written")
        begun = decode(Begun, document.pop("begun", {}), "begun")
        return Transcript(decode(Conversation, document, "conversation"), begun)
    except FieldError as error:
        raise IntegrityError(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} is no conversation that llmctl has written") from error
