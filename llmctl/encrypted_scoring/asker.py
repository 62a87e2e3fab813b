"""The side that has the question, and the secret key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from llmctl.encrypted_scoring.container import KEY, QUESTION, Container
from llmctl.encrypted_scoring.parameters import MARGIN_BITS, Parameters, parameters
from llmctl.encrypted_scoring.quantized import quantized
from llmctl.errors import IntegrityError


class OpenedScores(Struct, frozen=True):
    """``exact`` are inner products of whole numbers, ``scores`` those of the vectors, to the rounding of both;
    ``noise_budget_bits`` is what the worst ciphertext had left, None where all vectors were zeros."""

    exact: tuple[int, ...]
    scores: tuple[float, ...]
    noise_budget_bits: int | None


def asked(vector: Sequence[float]) -> tuple[Container, Container]:
    """The encrypted question, and the key that opens its scores. Raises UsageError."""
    from llmctl.encrypted_scoring import library

    numbers = quantized([vector])
    chosen = parameters(numbers.dimensions)
    made = library.context(chosen)
    secret_key = library.new_secret_key(made)
    plaintext = library.polynomial(dict(enumerate(numbers.rows[0])), chosen.modulus)
    question = library.encrypted(made, secret_key, plaintext)
    key = library.secret_key_bytes(secret_key)
    size = numbers.dimensions
    return Container(QUESTION, size, (question,)), Container(KEY, size, (key,), numbers.scale)


def opened(scores: Container, key: Container) -> OpenedScores:
    """Raises IntegrityError for scores of another question's form, for such as can't be read, and where noise may have
    changed them."""
    from llmctl.encrypted_scoring import library

    chosen = parameters(key.dimensions)
    if (scores.dimensions, len(scores.parts)) != (key.dimensions, chosen.ciphertexts(scores.vectors)):
        raise IntegrityError("the scores are not of this question: it has other dimensions, or they are cut off")
    if len(key.parts) != 1:
        raise IntegrityError("the key is none")
    made = library.context(chosen)
    reader = _Reader(made, library.read_secret_key(made, key.parts[0]), chosen)
    exact = [score for part in scores.parts for score in reader.scores(part)]
    exact = exact[: scores.vectors]
    if any(abs(score) > chosen.largest_score for score in exact):
        raise IntegrityError("a score is larger than any can be: the key is another question's, or they were changed")
    scale = scores.scale * key.scale
    return OpenedScores(tuple(exact), tuple(score / scale for score in exact), reader.least_bits)


class _Reader:
    """Decrypts one ciphertext after the other; ``least_bits`` is the smallest noise budget of all."""

    def __init__(self, made: Any, secret_key: Any, chosen: Parameters) -> None:
        from llmctl.encrypted_scoring import library

        self._library, self._made, self._chosen = library, made, chosen
        self._decryptor = library.sealapi.Decryptor(made, secret_key)
        self.least_bits: int | None = None

    def scores(self, part: bytes) -> list[int]:
        """Raises IntegrityError."""
        chosen, library = self._chosen, self._library
        if not part:  # of vectors of zeros
            return [0] * chosen.per_ciphertext
        ciphertext = library.read_ciphertext(self._made, part)
        bits = self._decryptor.invariant_noise_budget(ciphertext)
        self.least_bits = bits if self.least_bits is None else min(bits, self.least_bits)
        if bits < MARGIN_BITS:
            raise IntegrityError(f"a noise budget of {bits} bits, {MARGIN_BITS} are needed: scores may be wrong")
        plaintext = library.sealapi.Plaintext()
        self._decryptor.decrypt(ciphertext, plaintext)
        return [library.coefficient(plaintext, at, chosen.modulus) for at in chosen.places]
