"""Keys of a gateway that takes sealed requests, as RFC 9458 writes them, and as the line that llmctl shows and pins."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Self

from msgspec import Struct

from llmctl.sealed.message_error import SealedMessageError

PREFIX = "llmctl-key:"
LINE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]+")
KEY_BYTES = 32
X25519_HKDF_SHA256 = 0x0020
HKDF_SHA256, AES_128_GCM = 0x0001, 0x0001
OURS = (HKDF_SHA256, AES_128_GCM)


class KeyConfiguration(Struct, frozen=True):
    """``identifier`` is 0 to 255; ``public_key`` is of X25519. ``algorithms`` are pairs of KDF and AEAD."""

    identifier: int
    public_key: bytes
    algorithms: tuple[tuple[int, int], ...] = (OURS,)

    def encoded(self) -> bytes:
        pairs = b"".join(kdf.to_bytes(2, "big") + aead.to_bytes(2, "big") for kdf, aead in self.algorithms)
        kem = X25519_HKDF_SHA256.to_bytes(2, "big")
        return bytes([self.identifier]) + kem + self.public_key + len(pairs).to_bytes(2, "big") + pairs

    @classmethod
    def decoded(cls, raw: bytes) -> Self:
        """Raises SealedMessageError for what is no configuration, or none of X25519, HKDF-SHA256 and AES-128-GCM."""
        if len(raw) < 7 or raw[1:3] != X25519_HKDF_SHA256.to_bytes(2, "big"):
            raise SealedMessageError("it is no key of X25519")
        key, pairs = raw[3 : 3 + KEY_BYTES], raw[5 + KEY_BYTES :]
        length = int.from_bytes(raw[3 + KEY_BYTES : 5 + KEY_BYTES], "big")
        if not pairs or length != len(pairs) or length % 4:
            raise SealedMessageError("it is cut off, or more than one key")
        numbers = [int.from_bytes(pairs[at : at + 2], "big") for at in range(0, length, 2)]
        algorithms = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        if OURS not in algorithms:
            raise SealedMessageError("it is not for HKDF-SHA256 and AES-128-GCM")
        return cls(raw[0], key, algorithms)

    @property
    def line(self) -> str:
        """All of it in one word."""
        return PREFIX + base64.urlsafe_b64encode(self.encoded()).decode().rstrip("=")

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Raises SealedMessageError."""
        if not LINE.fullmatch(line):
            raise SealedMessageError(f"it must begin with {PREFIX}, and hold nothing but letters, digits, - and _")
        text = line.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error as error:
            raise SealedMessageError("it is cut off") from error
        return cls.decoded(raw)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and the digest of the configuration."""
        return f"sha256:{sha256(self.encoded()).hexdigest()}"


def listed(configurations: Iterable[KeyConfiguration]) -> bytes:
    """Several, as ``application/ohttp-keys`` has them."""
    encodings = [configuration.encoded() for configuration in configurations]
    return b"".join(len(encoding).to_bytes(2, "big") + encoding for encoding in encodings)
