"""What is wrong with a sealed message, whoever has sent it."""

from __future__ import annotations


class SealedMessageError(ValueError):
    """It is not sealed as it should be, or what was sealed is no HTTP message."""
