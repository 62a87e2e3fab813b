"""Conversations as files: JSON that only its owner may read, written when the user says so and never otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from llmctl.errors import IntegrityError, NotFoundError, ResourceError
from llmctl.files import atomic
from llmctl.files.decode import FieldError, decode
from llmctl.workspace.conversation import Conversation

FORMAT = "llmctl-conversation/1"
LIMIT_BYTES = 64 << 20


def save(file: Path, conversation: Conversation) -> None:
    """Writes all turns, the dropped ones too, in the place of what ``file`` holds. Raises ResourceError."""
    document = {"format": FORMAT, **msgspec.to_builtins(conversation)}
    try:
        atomic.write(file, json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace"))
    except OSError as error:
        raise ResourceError(f"{file} can't be written: {error.strerror or error}") from error


def load(file: Path) -> Conversation:
    """Raises NotFoundError, ResourceError, and IntegrityError for what ``save`` has not written."""
    try:
        with file.open("rb") as stream:
            content = stream.read(LIMIT_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"{file} is not there") from error
    except OSError as error:
        raise ResourceError(f"{file} can't be read: {error.strerror or error}") from error
    try:
        document = json.loads(content)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise IntegrityError(f"{file} is no conversation that /save has written")
        return decode(Conversation, document, "conversation")
    except FieldError as error:
        raise IntegrityError(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} is no conversation that /save has written") from error
