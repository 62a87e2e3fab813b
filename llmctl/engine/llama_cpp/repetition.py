"""Whether an answer has begun to repeat itself for ever."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PERIOD = 256  # tokens: a long paragraph
LEAST_TOKENS = 512  # of nothing but repetitions: longer than rules of dashes, empty tables and arrays of zeros are
LEAST_TIMES = 8
EVERY = 64  # tokens after which it is worth looking again


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the answer has long been repeating the same tokens. False unless EVERY tokens more have come."""
    if len(tokens) < LEAST_TOKENS or len(tokens) % EVERY:
        return False
    return any(_has_period(tokens, period) for period in range(1, LONGEST_PERIOD + 1))


def _has_period(tokens: Sequence[int], period: int) -> bool:
    length = max(LEAST_TOKENS, LEAST_TIMES * period)
    if len(tokens) < length or tokens[-1] != tokens[-1 - period]:
        return False
    end = tokens[-length:]
    return end[period:] == end[:-period]
