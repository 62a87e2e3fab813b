"""A bit of an answer. By itself, because the engine's process needs nothing else of an answer and starts sooner."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class PieceKind(StrEnum):
    """``THOUGHTS_SO_FAR`` has no text: what came as text so far was reasoning. ``NOTE`` is no part of the answer, but
    what the engine says of its work, for a person."""

    TEXT = "text"
    REASONING = "reasoning"
    THOUGHTS_SO_FAR = "thoughts_so_far"
    NOTE = "note"


class Piece(Struct, frozen=True):
    """A bit of the answer as it arrives."""

    kind: PieceKind
    text: str
