"""What computing with encrypted numbers costs on this machine: one product of a transformer's size, measured."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from llmctl.encrypted_scoring.asker import asked, opened
from llmctl.encrypted_scoring.parameters import LARGEST
from llmctl.encrypted_scoring.quantized import Quantized, quantized, scores
from llmctl.encrypted_scoring.scorer import scored
from llmctl.errors import EngineError

SIZE = 768  # of GPT-2's vectors
LAYERS, LAYER_PRODUCTS = 12, 12  # 768x2304, 768x768, 768x3072 and 3072x768 are twelve of 768x768
VOCABULARY = 50_257
ROUNDS = 3


class PublishedFigure(Struct, frozen=True):
    model: str
    seconds: float
    hardware: str
    source: str


PUBLISHED = (
    PublishedFigure("a 7B model", 33.0, "eight RTX 4090", "arXiv 2601.18511"),
    PublishedFigure("GPT-2", 2.62, "one RTX PRO 6000", "Perseus"),
)


class EncryptedProduct(Struct, frozen=True):
    """Medians in seconds, and sizes of one product of a SIZE x SIZE matrix with an encrypted vector. ``server_s`` is
    multiplication with all that belongs to it; ``clear_s`` is the same in whole numbers of Python."""

    encrypt_s: float
    server_s: float
    decrypt_s: float
    clear_s: float
    question_bytes: int
    answer_bytes: int
    noise_budget_bits: int

    @property
    def products_per_token(self) -> float:
        """Of GPT-2, its output layer included."""
        return LAYERS * LAYER_PRODUCTS + VOCABULARY / SIZE

    @property
    def token_s(self) -> float:
        """The linear layers of one token, on the server alone."""
        return self.products_per_token * self.server_s

    @property
    def token_bytes(self) -> int:
        return round(self.products_per_token * self.answer_bytes)


def measured(size: int = SIZE, rounds: int = ROUNDS) -> EncryptedProduct:
    """Raises EngineError where the encrypted product is not the one in clear."""
    source = random.Random(0)  # noqa: S311  numbers to multiply
    vector = [source.uniform(-1, 1) for _ in range(size)]
    matrix = Quantized(tuple(tuple(source.randint(-LARGEST, LARGEST) for _ in range(size)) for _ in range(size)), 1.0)
    question, key = asked(vector)
    answer = scored(question, matrix)
    result = opened(answer, key)
    numbers = quantized([vector]).rows[0]
    if list(result.exact) != scores(numbers, matrix.rows) or result.noise_budget_bits is None:
        raise EngineError("the encrypted product is not the one in clear", hint="llmctl doctor")
    took: Sequence[Callable[[], object]] = (
        lambda: asked(vector),
        lambda: scored(question, matrix),
        lambda: opened(answer, key),
        lambda: scores(numbers, matrix.rows),
    )
    encrypt_s, server_s, decrypt_s, clear_s = (_median_s(work, rounds) for work in took)
    sizes = question.size_bytes, answer.size_bytes
    return EncryptedProduct(encrypt_s, server_s, decrypt_s, clear_s, *sizes, result.noise_budget_bits)


def _median_s(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun_s)
    return statistics.median(times)
