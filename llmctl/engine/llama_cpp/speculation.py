"""Speculation: tokens that are guessed are computed together with the last one that was sampled, and those stay that
the sampler chooses itself.

A batch of several rows takes less time than as many steps, on most machines, but more than one step: it pays if enough
of the guesses are right. So before each step the gain is computed, from how often such guesses were right in this
answer and from what batches have cost on this engine, and nothing is drafted that doesn't pay. A guess that isn't
drafted is held against what comes all the same: so drafting begins, ends and begins again within an answer without
trials that cost anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Protocol

from llmctl.engine.llama_cpp.prompt_lookup import Match, PromptLookup

SIZES = (2, 4, 8, 16, 32)  # rows of a batch with drafted tokens: kernels compute fours together
MOST_DRAFTED = SIZES[-1] - 1
MOST_BESIDE_OTHERS = 3  # drafted tokens of an answer while others are written
LEAST_GAIN = 1.05  # times as many tokens a second
# So much of the time that an answer takes, and so many plain steps besides, may be lost by guesses.
LOSS_SHARE, FIRST_LOSS_STEPS = 0.02, 3.0
# Until a batch has been timed, a row more is taken to cost this share of a step: less than on most CPUs.
ROW_SHARE = 0.3
TIMED_BATCHES, TIMED_STEPS = 5, 9  # that are remembered
FORGOTTEN_AFTER_STEPS = 200  # of one row: then the first batch of each size is forgotten, so that it is tried again

# Matches of at least so many tokens, and how often what follows them is taken to come again before anything is known.
LENGTHS = (2, 3, 4, 6, 9, 16)
CHANCES = (0.2, 0.3, 0.5, 0.65, 0.8, 0.9)
PRIOR_WEIGHT = 4.0  # guesses that such a chance counts for


class Acceptance:
    """How often guesses were right in one answer, by the length of their match."""

    def __init__(self) -> None:
        self._right = [PRIOR_WEIGHT * chance for chance in CHANCES]
        self._all = [PRIOR_WEIGHT] * len(CHANCES)

    def chance(self, length: int) -> float:
        at = bisect_right(LENGTHS, length) - 1
        return self._right[at] / self._all[at]

    def add(self, length: int, *, is_right: bool) -> None:
        at = bisect_right(LENGTHS, length) - 1
        self._right[at] += is_right
        self._all[at] += 1


class StepCosts:
    """What batches have taken on this engine, beside a step of one row: the median of the last ones of each, so that
    other programs disturb both alike."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=TIMED_STEPS)
        self._ratios: dict[int, deque[float]] = {}
        self._steps_since = 0

    @property
    def step_s(self) -> float | None:
        """Seconds of a step of one row; None before there were any."""
        return median(self._steps) if self._steps else None

    def add(self, rows: int, seconds: float) -> None:
        """A step that computed nothing but one answer's rows."""
        if rows == 1:
            self._steps.append(seconds)
            self._forget()
        elif self.step_s:
            self._ratios.setdefault(rows, deque(maxlen=TIMED_BATCHES)).append(seconds / self.step_s)

    def _forget(self) -> None:
        self._steps_since = (self._steps_since + 1) % FORGOTTEN_AFTER_STEPS
        if not self._steps_since:
            self._ratios = {rows: deque(timed, TIMED_BATCHES) for rows, (_, *timed) in self._ratios.items() if timed}

    def ratio(self, rows: int) -> float:
        """Steps of one row that a batch takes as long as. What was timed once only may have been disturbed, and is
        taken together with what was expected."""
        timed = self._ratios.get(rows, ())
        if len(timed) > 1:
            return median(timed)
        smaller = max((size for size in self._ratios if size < rows), default=1)
        ratio = median(self._ratios[smaller]) if smaller > 1 else 1.0
        row_share = ROW_SHARE if smaller == 1 else max(0.0, min(ROW_SHARE, (ratio - 1) / (smaller - 1)))
        expected = ratio + row_share * (rows - smaller)
        return (expected + timed[0]) / 2 if timed else expected


class Drafter(Protocol):
    """Guesses how one answer goes on."""

    def draft(self, others: int) -> Sequence[int]:
        """Tokens to compute behind the last one that was sampled, no more than there is room for, none where that
        doesn't pay; ``others`` answers are written in the same step."""

    def add(self, token: int) -> None:
        """What was sampled next."""

    def took(self, rows: int, tokens: int, seconds: float) -> None:
        """A step for this answer alone has computed so many rows and brought so many tokens."""

    def end(self) -> None:
        """Nothing is drafted for the answer any more."""


class PromptDrafter:
    """Drafts what stood behind the same words before, for one answer of at most ``most`` tokens on an engine with
    ``costs``."""

    def __init__(self, prompt: Sequence[int], most: int, costs: StepCosts) -> None:
        self._lookup, self._acceptance, self._costs = PromptLookup(prompt, most), Acceptance(), costs
        self._left = most
        self._match: Match | None = None
        self._guesses: list[int] = []  # what is still to be held against what comes
        self._steps = self._saved_steps = 0.0  # of one row

    def draft(self, others: int) -> Sequence[int]:
        self._match = self._lookup.match()
        if self._match is None:
            self._guesses = []
            return ()
        count = self._count(self._match.length, others)
        self._guesses = self._lookup.behind(self._match, max(1, count))
        return tuple(self._guesses[:count])

    def add(self, token: int) -> None:
        self._lookup.add(token)
        self._left -= 1
        if not self._guesses or self._match is None:
            return
        is_right = self._guesses.pop(0) == token
        self._acceptance.add(self._match.length, is_right=is_right)
        self._match = Match(self._match.length + 1, self._match.begin + 1)
        if not is_right:
            self._guesses = []

    def took(self, rows: int, tokens: int, seconds: float) -> None:
        self._costs.add(rows, seconds)
        steps = self._costs.ratio(rows) if rows > 1 else 1.0
        self._steps += steps
        self._saved_steps += tokens - steps

    def end(self) -> None: ...

    def _count(self, length: int, others: int) -> int:
        """How many tokens to draft behind a match of ``length``: as many as bring the most tokens a second."""
        limit = min(MOST_BESIDE_OTHERS if others else MOST_DRAFTED, self._left - 1)
        if not self._may_lose():
            return 0
        best, most_gain, expected, chance = 0, LEAST_GAIN, 1.0, 1.0
        before = self._costs.ratio(others + 1) if others else 1.0
        for count in range(1, limit + 1):
            chance *= self._acceptance.chance(length + count - 1)
            expected += chance
            if count + 1 in SIZES:
                gain = (others + expected) / (others + 1) * before / self._costs.ratio(others + 1 + count)
                if gain > most_gain:
                    best, most_gain = count, gain
        return best

    def _may_lose(self) -> bool:
        """Whether drafts have not cost more than they may; False before a plain step was timed."""
        if self._costs.step_s is None:
            return False
        return self._saved_steps > -(FIRST_LOSS_STEPS + LOSS_SHARE * self._steps)
