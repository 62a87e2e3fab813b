"""What a server's certificate says. Import it inside functions: cryptography takes a while."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from llmctl.errors import CertificateError
from llmctl.printable import printable

PIN_PREFIX = "sha256:"


class Certificate(Struct, frozen=True):
    """``pin`` is that of its key; ``names`` are those it was made for; ``ends`` is when it expires, in UTC."""

    pin: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    ends: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it expires, below 0 where it has."""
        return (self.ends - datetime.now(UTC)).days


def certificate(der: bytes) -> Certificate:
    """Reads a certificate as it comes in the handshake. Raises CertificateError for what is none."""
    try:
        read = x509.load_der_x509_certificate(der)
        key = read.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Certificate(
            PIN_PREFIX + sha256(key).hexdigest(),
            printable(read.subject.rfc4514_string()),
            printable(read.issuer.rfc4514_string()),
            _names(read),
            read.not_valid_after_utc,
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"the server's certificate can't be read: {printable(str(error))}") from error


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(printable(str(name.value)) for name in names)
