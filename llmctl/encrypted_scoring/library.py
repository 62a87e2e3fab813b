"""The one door to TenSEAL, which wraps Microsoft SEAL: contexts, polynomials, and ciphertexts as bytes. Import it
inside functions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tenseal import sealapi as sealapi

from llmctl.encrypted_scoring.parameters import DEGREE, SECURITY_BITS, Parameters
from llmctl.errors import EngineError, IntegrityError

CIPHERTEXT_BYTES = 1 << 18  # raw it has 131,072
LEVEL = sealapi.SEC_LEVEL_TYPE.TC128


@cache
def context(parameters: Parameters) -> Any:
    """Raises EngineError where the library doesn't find the parameters valid and of SECURITY_BITS."""
    chosen = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    chosen.set_poly_modulus_degree(DEGREE)
    chosen.set_coeff_modulus(sealapi.CoeffModulus.BFVDefault(DEGREE, LEVEL))
    chosen.set_plain_modulus(parameters.modulus)
    made = sealapi.SEALContext(chosen, True, LEVEL)
    level = int(made.first_context_data().qualifiers().sec_level)
    if not made.parameters_set() or level != SECURITY_BITS:
        raise EngineError(f"TenSEAL does not take the parameters: {made.parameters_error_message()}")
    return made


def polynomial(numbers: Mapping[int, int], modulus: int) -> Any:
    """The plaintext with these coefficients, which may be negative, by their exponents."""
    terms = (f"{numbers[at] % modulus:x}x^{at}" for at in sorted(numbers, reverse=True) if numbers[at] % modulus)
    return sealapi.Plaintext(" + ".join(terms) or "0")


def coefficient(plaintext: Any, at: int, modulus: int) -> int:
    """With its sign."""
    number = int(plaintext.data(at)) if at < plaintext.coeff_count() else 0
    return number - modulus if number > modulus // 2 else number


def encrypted(made: Any, secret_key: Any, plaintext: Any) -> bytes:
    return _saved(sealapi.Encryptor(made, secret_key).encrypt_symmetric(plaintext))


def new_secret_key(made: Any) -> Any:
    return sealapi.KeyGenerator(made).secret_key()


def secret_key_bytes(secret_key: Any) -> bytes:
    return _saved(secret_key)


def read_secret_key(made: Any, raw: bytes) -> Any:
    """Raises IntegrityError."""
    return _loaded(made, sealapi.SecretKey(), raw, "a secret key")


def read_ciphertext(made: Any, raw: bytes) -> Any:
    """Raises IntegrityError for what is no ciphertext of these parameters."""
    if len(raw) > CIPHERTEXT_BYTES:
        raise IntegrityError(f"a ciphertext of {len(raw):,} bytes, more than the {CIPHERTEXT_BYTES:,} that one has")
    read = _loaded(made, sealapi.Ciphertext(made), raw, "a ciphertext")
    if read.size() != 2 or read.is_ntt_form() or read.is_transparent():
        raise IntegrityError("a ciphertext of another form")
    return read


def ciphertext_bytes(ciphertext: Any) -> bytes:
    return _saved(ciphertext)


def _saved(thing: Any) -> bytes:
    """By way of a file that only this user can read, which is all that the library writes to."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "saved"
        thing.save(str(file))
        return file.read_bytes()


def _loaded(made: Any, thing: Any, raw: bytes, kind: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "saved"
        file.write_bytes(raw)
        try:
            thing.load(made, str(file))
        except (RuntimeError, ValueError) as error:  # all that comes of C++
            raise IntegrityError(f"what should be {kind} is none") from error
    return thing
