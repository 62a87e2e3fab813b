"""What was computed for one answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Work:
    """Tokens, and seconds of the steps that computed them; ``was_alone`` if no other answer had part in them. Decoding
    is ``plain`` in steps without drafted tokens. Of those that were drafted ``compared_tokens`` were held against what
    came: all up to the first that was wrong."""

    cached_tokens: int = 0
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_tokens: int = 0
    decode_s: float = 0.0
    plain_tokens: int = 0
    plain_s: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    compared_tokens: int = 0
    was_alone: bool = True

    def add_prefill(self, tokens: int, seconds: float) -> None:
        self.prefill_tokens += tokens
        self.prefill_s += seconds

    def add_decoding(self, drafted: int, accepted: int, seconds: float, draft_s: float = 0.0) -> None:
        """A step that has brought one token and those that were ``accepted`` of the ``drafted`` ones, which had taken
        ``draft_s`` to draft."""
        self.decode_tokens += 1 + accepted
        self.decode_s += seconds + draft_s
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted
        self.compared_tokens += min(drafted, accepted + 1)
        if not drafted:
            self.plain_tokens += 1
            self.plain_s += seconds
