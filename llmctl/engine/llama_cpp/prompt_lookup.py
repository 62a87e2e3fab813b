"""Guesses how a text goes on by what stood behind the same words before (prompt lookup).

A rewritten text, quoted code and fields taken out of a document repeat long parts of their prompt to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

SHORTEST, LONGEST = 2, 16  # tokens that must be the same, and that are looked at


class Match(Struct, frozen=True):
    """The last ``length`` tokens stood before, right in front of position ``begin``."""

    length: int
    begin: int


class PromptLookup:
    """The tokens of a prompt and of its answer so far, ``room`` tokens at most."""

    def __init__(self, prompt: Sequence[int], room: int) -> None:
        import numpy as np

        self._tokens: Any = np.empty(len(prompt) + room, np.int32)
        self._tokens[: len(prompt)] = prompt
        self._count = len(prompt)

    def add(self, token: int) -> None:
        self._tokens[self._count] = token
        self._count += 1

    def match(self) -> Match | None:
        """The longest match of the end, the last one of those; None where fewer than SHORTEST tokens are the same."""
        tokens, length = self._tokens[: self._count], 1
        ends = (tokens[:-1] == tokens[-1:]).nonzero()[0]
        while ends.size and length < LONGEST:
            longer = ends[ends >= length]
            longer = longer[tokens[longer - length] == tokens[-1 - length]]
            if not longer.size:
                break
            ends, length = longer, length + 1
        return Match(length, int(ends[-1]) + 1) if ends.size and length >= SHORTEST else None

    def behind(self, match: Match, count: int) -> list[int]:
        """``count`` tokens from the match on; where the text ends before, it is taken to go round and round."""
        tokens: list[int] = self._tokens[match.begin : min(self._count, match.begin + count)].tolist()
        return [tokens[at % len(tokens)] for at in range(count)]
