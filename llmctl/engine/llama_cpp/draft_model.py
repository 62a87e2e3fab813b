"""A small model that guesses how a large one goes on: it writes some tokens by itself, and the large one computes them
all at once.

What it guesses costs time, its own and that of a larger batch, and pays where enough of it is right: so before each
draft the gain is computed, as for guesses out of the prompt (``speculation``), from how often this model was right and
what its steps have cost. It has one sequence, for one answer at a time, and nothing is drafted beside other answers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from llmctl.engine.llama_cpp.context import Context, DecodeError, Row
from llmctl.engine.llama_cpp.loading import load
from llmctl.engine.llama_cpp.speculation import FIRST_LOSS_STEPS, LEAST_GAIN, LOSS_SHARE, PromptDrafter, StepCosts
from llmctl.engine.llama_cpp.vocabulary import Vocabulary

COUNTS = (1, 3, 7, 15)  # tokens of a draft: with the last one sampled they make batches of the sizes that are timed
LEAST_LIKELY = 0.4  # a token that is less likely, by the draft model itself, ends the draft
EXPECTED_RIGHT, EXPECTED_WEIGHT = 0.7, 10.0  # the share of its tokens that is taken to be right, as if so many had come
READ_AT_ONCE = 128  # tokens of the text, between two steps of the answer
TIMED_STEPS = 9  # that are remembered
COMPARED_TOKENS = 4096  # of both vocabularies


class DraftModel:
    """The model that ``job`` names, with a sequence of its own; ``vocabulary`` is that of the model which answers."""

    def __init__(self, job: Mapping[str, Any], vocabulary: Vocabulary, file: str) -> None:
        """Raises RuntimeError where it can't be loaded, or has other tokens. ``file`` is that of the large model."""
        import llama_cpp

        model = load(job)
        own = Vocabulary(llama_cpp.llama_model_get_vocab(model), str(job["model"]), "")
        if not _are_same(own, vocabulary):
            raise RuntimeError(f"{job['file']} can't draft for {file}: it has other tokens")
        self._context = Context(model, job)
        if not self._context.can_cut:
            raise RuntimeError(f"{job['file']} can't draft: its memory can't go back to before a wrong draft")
        self._size = own.size
        self._held: list[int] = []
        self._user: object | None = None
        self._steps: deque[float] = deque(maxlen=TIMED_STEPS)
        self._right, self._all = EXPECTED_RIGHT * EXPECTED_WEIGHT, EXPECTED_WEIGHT

    @property
    def step_s(self) -> float | None:
        """Seconds of a token that it writes; None before the first."""
        return median(self._steps) if self._steps else None

    @property
    def chance(self) -> float:
        """How often a token of its drafts is right."""
        return self._right / self._all

    def learn(self, *, right: int, drafted: int) -> None:
        """So many of its tokens were right; what stood behind the first wrong one says nothing."""
        self._right += right
        self._all += min(drafted, right + 1)

    def taken_by(self, user: object) -> bool:
        """Whether the sequence is that user's: whoever comes first has it until it is given back."""
        if self._user is None:
            self._user = user
        return self._user is user

    def give_back(self, user: object) -> None:
        if self._user is user:
            self._user = None

    def has_read(self, text: Sequence[int]) -> bool:
        """Whether it holds all but the last token of ``text``; if not, it reads some more of it. Raises DecodeError."""
        shared = _shared(self._held, text[:-1])
        if shared < len(self._held):
            shared = shared if self._context.keep(0, shared) else 0
            self._held = self._held[:shared]
        piece = text[shared : min(len(text) - 1, shared + READ_AT_ONCE)]
        if piece:
            self._compute(piece, wants_next=False)
        return len(self._held) == len(text) - 1

    def draft(self, last: int, most: int) -> list[int]:
        """At most ``most`` tokens behind what it holds and ``last``. Raises DecodeError."""
        drafted: list[int] = []
        token = last
        while len(drafted) < most and len(self._held) < self._context.length - 1:
            begun = time.perf_counter()
            self._compute([token], wants_next=True)
            token, likelihood = self._likeliest()
            self._steps.append(time.perf_counter() - begun)
            if likelihood < LEAST_LIKELY:
                break
            drafted.append(token)
        return drafted

    def _compute(self, tokens: Sequence[int], *, wants_next: bool) -> None:
        first, last = len(self._held), len(tokens) - 1
        rows = [Row(token, first + at, 0, wants_next and at == last) for at, token in enumerate(tokens)]
        try:
            self._context.decode(rows)
        except DecodeError:
            self._context.keep(0, 0)
            self._held = []
            raise
        self._held.extend(tokens)

    def _likeliest(self) -> tuple[int, float]:
        """The likeliest token behind the last row, and how likely it is."""
        import llama_cpp
        import numpy as np

        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context.pointer, -1), shape=(self._size,))
        token = int(logits.argmax())
        return token, float(1 / np.exp(logits - logits[token]).sum())


class ModelDrafter:
    """Drafts out of the prompt, where the answer copies from it, else by ``model``. A ``speculation.Drafter`` for one
    answer of at most ``most`` tokens."""

    def __init__(self, prompt: Sequence[int], most: int, costs: StepCosts, model: DraftModel) -> None:
        self._copies = PromptDrafter(prompt, most, costs)
        self._model, self._costs = model, costs
        self._text, self._left = list(prompt), most
        self._drafted: list[int] = []  # by the model, in this step
        self._draft_s = 0.0
        self._steps = self._saved_steps = 0.0  # of one row
        self._has_failed = False

    def draft(self, others: int) -> Sequence[int]:
        self._drafted, self._draft_s = [], 0.0
        copied = self._copies.draft(others)
        if copied or others or self._has_failed or self._costs.step_s is None or not self._model.taken_by(self):
            return copied
        count = self._count()
        if not count:
            return ()
        begun = time.perf_counter()
        try:
            if self._model.has_read(self._text):
                self._drafted = self._model.draft(self._text[-1], count)
        except DecodeError:
            self._has_failed = True
        self._draft_s = time.perf_counter() - begun if self._drafted else 0.0
        return tuple(self._drafted)

    def add(self, token: int) -> None:
        self._copies.add(token)
        self._text.append(token)
        self._left -= 1

    def took(self, rows: int, tokens: int, seconds: float) -> None:
        if not self._drafted:
            self._copies.took(rows, tokens, seconds)
            self._steps += 1
            return
        self._costs.add(rows, seconds)
        self._model.learn(right=tokens - 1, drafted=len(self._drafted))
        steps = self._costs.ratio(rows) + self._draft_s / (self._costs.step_s or seconds)
        self._steps += steps
        self._saved_steps += tokens - steps

    def end(self) -> None:
        self._model.give_back(self)

    def _count(self) -> int:
        """How many tokens to draft: as many as bring the most tokens a second, none where that doesn't pay."""
        if self._saved_steps <= -(FIRST_LOSS_STEPS + LOSS_SHARE * self._steps):
            return 0
        own = 0.0 if self._model.step_s is None else self._model.step_s / (self._costs.step_s or 1.0)
        best, most_gain, expected = 0, LEAST_GAIN, 1.0
        for count in range(1, min(COUNTS[-1], self._left - 1) + 1):
            expected += self._model.chance**count
            if count in COUNTS:
                gain = expected / (self._costs.ratio(1 + count) + own * count)
                best, most_gain = max((best, most_gain), (count, gain), key=lambda pair: pair[1])
        return best


def _shared(held: Sequence[int], text: Sequence[int]) -> int:
    """How many tokens at the beginning are the same."""
    most = min(len(held), len(text))
    if held[:most] == text[:most]:
        return most
    return next(at for at in range(most) if held[at] != text[at])


def _are_same(first: Vocabulary, second: Vocabulary) -> bool:
    """Whether the same numbers are the same tokens, as far as some thousand of them tell."""
    if first.size != second.size:
        return False
    return all(
        first.piece(number) == second.piece(number)
        for number in range(0, first.size, max(1, first.size // COMPARED_TOKENS))
    )
