"""What was computed for one answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Work:
    """Tokens, and seconds of the steps that computed them; ``was_alone`` if no other answer had part in them. Decoding
    is ``plain`` in steps without drafted tokens."""

    cached_tokens: int = 0
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_tokens: int = 0
    decode_s: float = 0.0
    plain_tokens: int = 0
    plain_s: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    was_alone: bool = True

    def add_prefill(self, tokens: int, seconds: float) -> None:
        self.prefill_tokens += tokens
        self.prefill_s += seconds

    def add_decoding(self, drafted: int, accepted: int, seconds: float) -> None:
        """A step that has brought one token and those that were ``accepted`` of the ``drafted`` ones."""
        self.decode_tokens += 1 + accepted
        self.decode_s += seconds
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted
        if not drafted:
            self.plain_tokens += 1
            self.plain_s += seconds
