"""What is chosen for vectors of so many dimensions, and why scores can't come out wrong."""

from __future__ import annotations

from msgspec import Struct

from llmctl.errors import UsageError

DEGREE = 4096  # of the polynomials: numbers in one ciphertext
SECURITY_BITS = 128  # by the library's own table
LARGEST = 127  # of a number in a vector, either sign
MARGIN_BITS = 10  # of noise budget that an answer must have left


class Parameters(Struct, frozen=True):
    """For vectors of so many ``dimensions``, 1 to DEGREE."""

    dimensions: int

    @property
    def per_ciphertext(self) -> int:
        """Vectors that are scored at once."""
        return DEGREE // self.dimensions

    @property
    def places(self) -> range:
        """Exponents at which a product has scores."""
        return range(self.dimensions - 1, self.per_ciphertext * self.dimensions, self.dimensions)

    @property
    def largest_score(self) -> int:
        return self.dimensions * LARGEST * LARGEST

    @property
    def modulus(self) -> int:
        """A power of two above the scores of both signs."""
        return 1 << (2 * self.largest_score).bit_length()

    def ciphertexts(self, vectors: int) -> int:
        """Of the answer for so many vectors."""
        return -(-vectors // self.per_ciphertext)


def parameters(dimensions: int) -> Parameters:
    """Raises UsageError where one ciphertext doesn't hold a vector."""
    if not 1 <= dimensions <= DEGREE:
        raise UsageError(
            f"vectors of {dimensions:,} dimensions can't be scored, those of 1 to {DEGREE:,} can",
            hint="llmctl embed --dimensions 1024 …   makes shorter ones, of models that allow it",
        )
    return Parameters(dimensions)
