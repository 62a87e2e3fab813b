"""The certificate that llmctl makes for its gateway: clients know it by its key, which stays when it is renewed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl import paths
from llmctl.errors import CertificateError, ConfigError, ResourceError
from llmctl.files import atomic
from llmctl.shell import command

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAYS = 825  # the longest that Apple's systems take
RENEWED_BEFORE_DAYS = 30
CLOCKS_DIFFER = timedelta(days=1)
FILE_BYTES = 1 << 16


class CertificateFiles(Struct, frozen=True):
    """Two PEM files. ``pin`` is that of the key, as ``endpoint add --pin`` takes it."""

    certificate: Path
    key: Path
    pin: str


def own(hosts: Iterable[str]) -> CertificateFiles:
    """The certificate in the data folder, for ``hosts`` beside this machine's names. It is made, or renewed with
    the key that there is, where it lacks one of them or ends soon. Raises ConfigError for a key that can't be read,
    and ResourceError."""
    folder = paths.data_dir() / "tls"
    files = folder / "certificate.pem", folder / "key.pem"
    wanted = {"localhost", "127.0.0.1", "::1", socket.gethostname().lower(), *map(str.lower, hosts)}
    names = frozenset(name for name in wanted if name.isascii())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = _key(files[1])
        if not _is_good(files[0], key, names):
            atomic.write(files[0], _made(key, sorted(names)), lasting=True)
    except OSError as error:
        raise ResourceError(
            f"the gateway's certificate can't be kept in {folder}: {error.strerror or error}",
            hint=command("ls", "-ld", folder),
        ) from error
    return given(*files)


def given(certificate: Path, key: Path) -> CertificateFiles:
    """Those of the user's own, with the pin of the first certificate. Raises ConfigError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from llmctl.net.certificate import certificate as read_certificate

    try:
        pem = _read(certificate)
        pin = read_certificate(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).pin
    except OSError as error:
        raise ConfigError(f"{certificate} can't be read: {error.strerror or error}") from error
    except (ValueError, CertificateError) as error:
        raise ConfigError(f"{certificate} is no certificate in PEM") from error
    return CertificateFiles(certificate, key, pin)


def _key(file: Path) -> EllipticCurvePrivateKey:
    """The key in ``file``, made where there is none. Raises ConfigError, OSError."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(_read(file), password=None)
    except FileNotFoundError:
        made = ec.generate_private_key(ec.SECP256R1())
        atomic.write(file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), lasting=True)
        return made
    except (ValueError, TypeError) as error:  # no PEM; a password
        raise ConfigError(f"{file} is no key that llmctl has made", hint=_anew(file)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{file} is no key that llmctl has made", hint=_anew(file))
    return key


def _anew(file: Path) -> str:
    return command("rm", file) + "   then clients have to be told the new pin"


def _is_good(file: Path, key: EllipticCurvePrivateKey, names: frozenset[str]) -> bool:
    """Whether the certificate in ``file`` is that of ``key``, for all ``names``, and lasts a while. Raises OSError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from llmctl.net.certificate import certificate

    try:
        made = x509.load_pem_x509_certificate(_read(file))
    except (FileNotFoundError, ValueError):
        return False
    read = certificate(made.public_bytes(Encoding.DER))
    return made.public_key() == key.public_key() and names <= set(read.names) and read.days_left > RENEWED_BEFORE_DAYS


def _made(key: EllipticCurvePrivateKey, names: list[str]) -> bytes:
    """A certificate of ``key``, signed with it, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llmctl gateway")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=DAYS) - CLOCKS_DIFFER)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(FILE_BYTES)
