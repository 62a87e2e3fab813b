"""Vectors as whole numbers from -127 to 127, of which scores are computed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmctl.encrypted_scoring.parameters import LARGEST
from llmctl.errors import UsageError


class Quantized(Struct, frozen=True):
    """``rows`` divided by ``scale`` are the vectors, to half a step."""

    rows: tuple[tuple[int, ...], ...]
    scale: float

    @property
    def dimensions(self) -> int:
        return len(self.rows[0])


def quantized(vectors: Sequence[Sequence[float]]) -> Quantized:
    """The largest number of all becomes 127. Raises UsageError for no vector, and for such as can't be compared."""
    if not vectors or not vectors[0]:
        raise UsageError("there is no vector")
    if len({len(vector) for vector in vectors}) > 1:
        raise UsageError("the vectors are of different lengths")
    largest = max(abs(number) for vector in vectors for number in vector)
    if not 0 <= largest < float("inf") or any(number != number for vector in vectors for number in vector):
        raise UsageError("a vector holds a number that is none")
    scale = LARGEST / largest if largest else 1.0
    return Quantized(tuple(tuple(round(number * scale) for number in vector) for vector in vectors), scale)


def scores(question: Sequence[int], rows: Sequence[Sequence[int]]) -> list[int]:
    """In clear: what the encrypted way has to come to."""
    return [sum(map(int.__mul__, question, row)) for row in rows]
