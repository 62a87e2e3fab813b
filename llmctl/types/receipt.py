"""What was sent to a server of the user's, without a word of it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from llmctl.types.endpoint import LeaveReason


class Outcome(StrEnum):
    """How it ended. ``PARTIAL``: an error came when a part of the answer was there; ``INTERRUPTED``: the user, or
    the reader of the answer, wanted no more."""

    ANSWERED = "answered"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Sent(Struct, frozen=True):
    """What one prompt has sent. ``time`` is UTC in ISO 8601, when it was about to leave; ``bytes`` are those of request
    bodies, of every try; ``pin``: the certificate's key was held against the one that the endpoint's table has;
    ``sealed`` is the fingerprint of the key that it was sealed for, None where it wasn't;
    ``cost`` is by the price of that table, None without one."""

    time: str
    endpoint: str
    host: str
    model: str
    bytes: int
    tls: bool
    pin: bool
    left_because: LeaveReason
    outcome: Outcome
    cost: float | None = None
    sealed: str | None = None


class Receipt(Sent, frozen=True, kw_only=True):
    """A line of the record. ``number`` counts from 1; ``before`` is the sha256 of the receipt before, None for the
    first; ``sha256`` is that of the line without itself."""

    number: int
    before: str | None
    sha256: str
