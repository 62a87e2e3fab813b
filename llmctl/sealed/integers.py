"""Integers of variable length (RFC 9000, section 16): the first two bits say whether 1, 2, 4 or 8 bytes hold it."""

from __future__ import annotations

LENGTHS = (1, 2, 4, 8)
LIMITS = (1 << 6, 1 << 14, 1 << 30, 1 << 62)


class IncompleteError(ValueError):
    """More bytes have to come."""


def encoded(number: int) -> bytes:
    """In as few bytes as hold it. Raises ValueError for what is below 0, or 2^62 and more."""
    for code, (length, limit) in enumerate(zip(LENGTHS, LIMITS, strict=True)):
        if 0 <= number < limit:
            return (number | code << (8 * length - 2)).to_bytes(length, "big")
    raise ValueError(f"{number} can't be an integer of variable length")


def decoded(data: bytes | bytearray, at: int = 0) -> tuple[int, int]:
    """The integer at ``at``, and where it ends. Raises IncompleteError."""
    if at >= len(data):
        raise IncompleteError
    length = LENGTHS[data[at] >> 6]
    end = at + length
    if end > len(data):
        raise IncompleteError
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * length - 2)) - 1), end
