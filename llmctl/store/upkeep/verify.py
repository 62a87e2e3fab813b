"""Whether the bytes of a stored file are still those that its name, its manifest or the catalogue promise."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum

from msgspec import Struct

from llmctl.errors import AccessError, IntegrityError, NotFoundError, ResourceError, UnsupportedFileError
from llmctl.gguf.header import read_file
from llmctl.store.copy import hashed
from llmctl.store.stored import Stored
from llmctl.types.listener import Progress


class Soundness(StrEnum):
    """SOUND: hashed, and what the publisher says. UNCHANGED: hashed, and what it was when it came. WHOLE: its own
    header fits its length, but no sha256 is known. WRONG: not what it must be. UNREADABLE: not known."""

    SOUND = "sound"
    UNCHANGED = "unchanged"
    WHOLE = "whole"
    WRONG = "wrong"
    UNREADABLE = "unreadable"


class Verdict(Struct, frozen=True):
    """``sha256`` is what the bytes have, ``expected`` what they must have, as far as that is known."""

    stored: Stored
    state: Soundness
    why: str | None = None
    sha256: str | None = None
    expected: str | None = None


def verify(stored: Stored, expected: str | None, progress: Progress, *, vouched: bool = True) -> Verdict:
    """Reads all of the file, unless its header is wrong already. ``vouched``: ``expected`` is the publisher's word.
    Raises nothing but KeyboardInterrupt."""
    try:
        with suppress(UnsupportedFileError):  # a sound file of another kind is what its sha256 says, too
            read_file(stored.path)
        if expected is None:
            return Verdict(stored, Soundness.WHOLE)
        digest = hashed(stored.path, progress)
    except IntegrityError as error:
        return Verdict(stored, Soundness.WRONG, error.message.removeprefix(f"{stored.path} "), None, expected)
    except (NotFoundError, AccessError, ResourceError) as error:
        return Verdict(stored, Soundness.UNREADABLE, error.message, None, expected)
    if digest != expected:
        why = f"has sha256 {digest[:16]}…, it must have {expected[:16]}…"
        return Verdict(stored, Soundness.WRONG, why, digest, expected)
    return Verdict(stored, Soundness.SOUND if vouched else Soundness.UNCHANGED, None, digest, expected)
