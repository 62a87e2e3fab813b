"""The side that has the vectors. It holds no key, and learns nothing of the question but its number of dimensions.

A block of vectors is one polynomial, each vector's numbers in reverse, so that the product with the question's has
their inner products at known places. What the other places hold would tell the vectors: there noise is added that fills
the whole range.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from llmctl.encrypted_scoring.container import SCORES, Container
from llmctl.encrypted_scoring.parameters import DEGREE, Parameters, parameters
from llmctl.encrypted_scoring.quantized import Quantized
from llmctl.errors import IntegrityError, UsageError


def scored(question: Container, vectors: Quantized) -> Container:
    """The encrypted scores. Raises UsageError for vectors of another length, IntegrityError for what is no question."""
    from llmctl.encrypted_scoring import library

    if question.dimensions != vectors.dimensions:
        raise UsageError(
            f"the question has {question.dimensions:,} dimensions and the vectors {vectors.dimensions:,}: they must "
            "come of the same model",
            hint="llmctl embed -m MODEL --as document …",
        )
    if len(question.parts) != 1:
        raise IntegrityError("the question is not one ciphertext")
    chosen = parameters(question.dimensions)
    made = library.context(chosen)
    asked = library.read_ciphertext(made, question.parts[0])
    evaluator = library.sealapi.Evaluator(made)
    parts = tuple(_product(evaluator, made, asked, block, chosen) for block in _blocks(vectors, chosen))
    return Container(SCORES, question.dimensions, parts, vectors.scale, len(vectors.rows))


def _blocks(vectors: Quantized, chosen: Parameters) -> Iterator[Sequence[Sequence[int]]]:
    for at in range(0, len(vectors.rows), chosen.per_ciphertext):
        yield vectors.rows[at : at + chosen.per_ciphertext]


def _product(evaluator: Any, made: Any, asked: Any, block: Sequence[Sequence[int]], chosen: Parameters) -> bytes:
    """A ciphertext; nothing for vectors of zeros, by which the library doesn't multiply: their scores are zero."""
    from llmctl.encrypted_scoring import library

    numbers = packed(block, chosen.dimensions)
    if not any(numbers.values()):
        return b""
    product = library.sealapi.Ciphertext(made)
    evaluator.multiply_plain(asked, library.polynomial(numbers, chosen.modulus), product)
    evaluator.add_plain_inplace(product, library.polynomial(_noise(chosen), chosen.modulus))
    return library.ciphertext_bytes(product)


def packed(block: Sequence[Sequence[int]], dimensions: int) -> dict[int, int]:
    """Coefficients by their exponents."""
    return {
        number * dimensions + dimensions - 1 - at: value
        for number, row in enumerate(block)
        for at, value in enumerate(row)
    }


def _noise(chosen: Parameters) -> dict[int, int]:
    places = set(chosen.places)
    random = struct.unpack(f">{DEGREE}L", secrets.token_bytes(4 * DEGREE))
    return {at: number % chosen.modulus for at, number in enumerate(random) if at not in places}
