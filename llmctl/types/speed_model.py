"""How long a placed model takes for a prompt and an answer of any length, as the planner predicts it."""

from __future__ import annotations

from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace


class SpeedModel(Struct, frozen=True):
    """Seconds. A token of the answer takes ``token_s`` and, for each token before it, ``cell_s`` in layers that see all
    of them and ``window_cell_s`` in those that see the last ``window`` only. A token of a prompt takes ``prompt_s``
    and ``pair_s`` or ``window_pair_s`` for each token that it is computed against; llama.cpp without flash attention
    computes every ``batch`` of them against all of it, and throws half away. Each ``ubatch`` tokens of a prompt, or
    less, take ``ubatch_s`` besides. ``turns`` devices, each with its own layers, work at them in turns: when the first
    has done with one, it begins the next. ``steps_s`` are seconds of a step that computes so many tokens at
    once, attention left out, by their number; where it is empty they take as long as a prompt of so many.
    """

    token_s: float
    cell_s: float
    window_cell_s: float
    prompt_s: float
    pair_s: float
    window_pair_s: float
    window: int | None
    batch: int
    ubatch_s: float = 0.0
    ubatch: int = 512
    turns: int = 1
    steps_s: tuple[tuple[int, float], ...] = ()

    def decode_s(self, depth: float) -> float:
        """For one token with ``depth`` before it."""
        return self.token_s + self._attention_s(depth)

    def _attention_s(self, depth: float) -> float:
        return self.cell_s * depth + self.window_cell_s * min(depth, self.window or depth)

    def decode_tok_s(self, depth: float) -> float:
        return 1 / self.decode_s(depth)

    def together_tok_s(self, depth: float, answers: int) -> float:
        """Tokens per second of so many answers together, each with ``depth`` tokens before."""
        return answers / self.batch_s(answers, depth)

    def batch_s(self, rows: int, depth: float) -> float:
        """For so many tokens at once, each with ``depth`` before it: one of each of several answers, or of a draft."""
        if not self.steps_s:
            return max(self.decode_s(depth), self.prefill_s(rows, int(depth)))
        return self._step_s(rows) + rows * self._attention_s(depth)

    def _step_s(self, answers: int) -> float:
        """Without attention: between the numbers of ``steps_s`` in proportion, beyond them as far from the last as that
        is from none."""
        points = ((1, self.token_s), *self.steps_s)
        for (fewer, low_s), (more, high_s) in pairwise(points):
            if answers <= more:
                return low_s + (high_s - low_s) * (answers - fewer) / (more - fewer)
        most, last_s = points[-1]
        return last_s * answers / most

    def answer_s(self, depth: int, tokens: int) -> float:
        """For so many tokens, the first of which has ``depth`` before it."""
        return tokens * self.decode_s(depth + tokens / 2)

    def prefill_s(self, tokens: int, depth: int = 0) -> float:
        """For a prompt of so many tokens after ``depth`` others."""
        if not tokens:
            return 0.0
        seen = depth + (tokens + min(tokens, self.batch)) / 2  # on average
        windowed = min(seen, (self.window or seen) + self.batch)
        batches = -(-tokens // self.ubatch)
        one_by_one_s = batches * self.ubatch_s
        one_by_one_s += tokens * (self.prompt_s + self.pair_s * seen + self.window_pair_s * windowed)
        return one_by_one_s * (batches + self.turns - 1) / (batches * self.turns)

    def prefill_tok_s(self, tokens: int, depth: int = 0) -> float:
        return tokens / self.prefill_s(tokens, depth)

    def task_s(self, prompt_tokens: int, answer_tokens: int) -> float:
        """A whole answer: the prompt read, then every token written."""
        return self.prefill_s(prompt_tokens) + self.answer_s(prompt_tokens, answer_tokens)

    def faster(self, decode: float, prefill: float) -> SpeedModel:
        """So many times as fast."""
        return replace(
            self,
            token_s=self.token_s / decode,
            cell_s=self.cell_s / decode,
            window_cell_s=self.window_cell_s / decode,
            prompt_s=self.prompt_s / prefill,
            pair_s=self.pair_s / prefill,
            window_pair_s=self.window_pair_s / prefill,
            ubatch_s=self.ubatch_s / prefill,
            steps_s=tuple((answers, step_s / decode) for answers, step_s in self.steps_s),
        )


class DraftForecast(Struct, frozen=True):
    """``rows`` tokens that are computed at once take as long as ``steps`` one by one, four times in five
    ``fewest_steps`` to ``most_steps``. Of ``drafted_tokens`` so far, ``accepted_tokens`` were right."""

    rows: int
    steps: float
    fewest_steps: float
    most_steps: float
    drafted_tokens: int
    accepted_tokens: int

    @property
    def gain(self) -> float:
        """How many times as fast an answer is written whose drafts are all right."""
        return self.rows / self.steps
