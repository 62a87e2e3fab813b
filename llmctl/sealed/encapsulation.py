"""What seals a request for the holder of a key, and its answer for who has asked. Import it inside functions: HPKE is
an extra, and takes a while to import."""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair, PyHPKEError

from llmctl.sealed.chunks import DATA_BYTES, FINAL, framed
from llmctl.sealed.key_configuration import (
    AES_128_GCM,
    HKDF_SHA256,
    KEY_BYTES,
    X25519_HKDF_SHA256,
    KeyConfiguration,
)
from llmctl.sealed.message_error import SealedMessageError

SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)
ALGORITHMS = b"".join(number.to_bytes(2, "big") for number in (X25519_HKDF_SHA256, HKDF_SHA256, AES_128_GCM))
REQUEST, RESPONSE = b"message/bhttp chunked request", b"message/bhttp chunked response"
HEADER_BYTES = 7 + KEY_BYTES
SECRET_BYTES = NONCE_BYTES = 16  # the larger one of the AEAD's key and nonce
AEAD_NONCE_BYTES = 12


def new_private_key() -> bytes:
    """Of X25519."""
    return X25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def configuration_of(identifier: int, private_key: bytes) -> KeyConfiguration:
    public = X25519PrivateKey.from_private_bytes(private_key).public_key()
    return KeyConfiguration(identifier, public.public_bytes(Encoding.Raw, PublicFormat.Raw))


class RequestSealer:
    """For one request. ``header`` goes before its chunks; ``ephemeral`` is a private key for tests alone. Raises
    SealedMessageError for a public key that can be none."""

    def __init__(self, configuration: KeyConfiguration, ephemeral: bytes | None = None) -> None:
        algorithms = bytes([configuration.identifier]) + ALGORITHMS
        pair = None if ephemeral is None else _pair(ephemeral)
        try:
            key = KEMKey.from_pyca_cryptography_key(_public(configuration.public_key))
            self._enc, self._context = SUITE.create_sender_context(key, REQUEST + b"\0" + algorithms, eks=pair)
        except (PyHPKEError, ValueError) as error:
            raise SealedMessageError("the key can't be used") from error
        self.header = algorithms + self._enc

    def whole(self, message: bytes) -> bytes:
        """The header and all chunks of ``message``."""
        pieces = [message[at : at + DATA_BYTES] for at in range(0, len(message), DATA_BYTES)] or [b""]
        return b"".join((self.header, *map(self.chunk, pieces[:-1]), self.chunk(pieces[-1], is_final=True)))

    def chunk(self, data: bytes, *, is_final: bool = False) -> bytes:
        return framed(self._context.seal(data, FINAL if is_final else b""), is_final=is_final)

    def answer(self, nonce: bytes) -> AnswerCipher:
        """Opens the answer that begins with ``nonce``."""
        return AnswerCipher(self._context.export(RESPONSE, SECRET_BYTES), self._enc, nonce)


class RequestOpener:
    """For the request that begins with ``header``, of HEADER_BYTES. Raises SealedMessageError for other algorithms than
    llmctl's, and for what was made for another key."""

    def __init__(self, private_key: bytes, header: bytes) -> None:
        if header[1:7] != ALGORITHMS:
            raise SealedMessageError("it is not sealed by X25519, HKDF-SHA256 and AES-128-GCM")
        self._enc = header[7:]
        info = REQUEST + b"\0" + header[:7]
        key = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(private_key))
        try:
            self._context = SUITE.create_recipient_context(self._enc, key, info)
        except (PyHPKEError, ValueError) as error:
            raise SealedMessageError("it can't be opened") from error

    def open(self, sealed: bytes, *, is_final: bool) -> bytes:
        """One chunk after the other. Raises SealedMessageError."""
        try:
            return self._context.open(sealed, FINAL if is_final else b"")
        except PyHPKEError as error:
            raise SealedMessageError("it can't be opened") from error

    def answer(self, nonce: bytes | None = None) -> AnswerCipher:
        """Seals the answer; ``nonce`` is for tests alone."""
        nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
        return AnswerCipher(self._context.export(RESPONSE, SECRET_BYTES), self._enc, nonce)


class AnswerCipher:
    """Seals the chunks of one answer or opens them, one after the other: their order, and which one is the last, are a
    part of what is sealed."""

    def __init__(self, secret: bytes, enc: bytes, nonce: bytes) -> None:
        self.nonce = nonce
        pseudorandom = hmac.digest(enc + nonce, secret, "sha256")
        self._aead = AESGCM(_expanded(pseudorandom, b"key", 16))
        self._base = int.from_bytes(_expanded(pseudorandom, b"nonce", AEAD_NONCE_BYTES), "big")
        self._count = 0

    def seal(self, data: bytes, *, is_final: bool = False) -> bytes:
        sealed = self._aead.encrypt(self._next_nonce(), data, FINAL if is_final else b"")
        return framed(sealed, is_final=is_final)

    def open(self, sealed: bytes, *, is_final: bool = False) -> bytes:
        """Raises SealedMessageError."""
        try:
            return self._aead.decrypt(self._next_nonce(), sealed, FINAL if is_final else b"")
        except (InvalidTag, ValueError) as error:
            raise SealedMessageError(f"chunk {self._count} was altered, or stands in another's place") from error

    def _next_nonce(self) -> bytes:
        nonce = (self._base ^ self._count).to_bytes(AEAD_NONCE_BYTES, "big")
        self._count += 1
        return nonce


def _expanded(pseudorandom: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of one block (RFC 5869)."""
    return hmac.digest(pseudorandom, info + b"\1", "sha256")[:length]


def _public(raw: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(raw)


def _pair(raw: bytes) -> KEMKeyPair:
    private = X25519PrivateKey.from_private_bytes(raw)
    keys = private, private.public_key()
    return KEMKeyPair(*map(KEMKey.from_pyca_cryptography_key, keys))
