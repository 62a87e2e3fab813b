"""What a model is to be good for."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Task(Struct, frozen=True):
    """What is usual of a task and what it takes.

    ``needs`` is the word that a model's own tasks must have; ``evidence`` the weight of each area of benchmarks.
    ``min_tok_s`` the decode floor and ``because``, why it is that; 0 where nothing is written (embedding, reranking).
    ``max_first_token_s`` the longest until the answer begins, thoughts left out; ``max_answer_s`` the longest a whole
    answer may take, prompt read and thoughts included; ``prompt_tokens``, ``answer_tokens``, ``thinking_tokens`` what
    is usual; ``think`` whether a model that can choose is told to think; ``sees`` that it needs its projector.
    """

    name: str
    min_tok_s: float
    because: str
    max_first_token_s: float
    max_answer_s: float
    context: int
    prompt_tokens: int
    answer_tokens: int
    thinking_tokens: int
    think: bool
    sees: bool
    needs: str
    evidence: Mapping[str, float]

    @property
    def writes(self) -> bool:
        return self.answer_tokens > 0
