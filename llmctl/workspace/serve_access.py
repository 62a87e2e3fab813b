"""By which proofs a gateway is used: none on this machine alone, else TLS and a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from msgspec import Struct

from llmctl.errors import UsageError
from llmctl.workspace import own_certificate, tokens
from llmctl.workspace.own_certificate import CertificateFiles

FIRST_TOKEN = "first"  # noqa: S105  # a name


class ServeAccess(Struct, frozen=True):
    """``certificate`` is None for plain http. ``new_token`` was made since nobody had one that is good: to be shown
    once."""

    certificate: CertificateFiles | None
    token_required: bool
    new_token: str | None = None


def prepared(
    bound: str,
    *,
    hosts: Iterable[str] = (),
    tls_cert: str | None = None,
    tls_key: str | None = None,
    require_token: bool = False,
) -> ServeAccess:
    """What a gateway that listens at the address ``bound`` needs, and is called by ``hosts`` beside that: a certificate
    and a token are made where they are needed and missing. Raises UsageError, ConfigError, ResourceError."""
    if (tls_cert is None) != (tls_key is None):
        given, lacking = ("--tls-cert", "--tls-key") if tls_key is None else ("--tls-key", "--tls-cert")
        both = "llmctl serve --tls-cert CERT.pem --tls-key KEY.pem"
        raise UsageError(f"{given} needs {lacking} beside it", hint=both)
    is_off = not is_loopback(bound)
    certificate = None
    if tls_cert is not None and tls_key is not None:
        certificate = own_certificate.given(Path(tls_cert).expanduser(), Path(tls_key).expanduser())
    elif is_off:
        certificate = own_certificate.own([bound, *hosts])
    token_required = is_off or require_token
    return ServeAccess(certificate, token_required, _first_token() if token_required else None)


def is_loopback(address: str) -> bool:
    """Whether an IP address, or ``localhost``, is this machine's own alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _first_token() -> str | None:
    """A token, where there is none that is good."""
    kept = tokens.read()
    if not all(token.has_expired() for token in kept):
        return None
    taken = {token.name for token in kept}
    names = (FIRST_TOKEN if number == 1 else f"{FIRST_TOKEN}-{number}" for number in count(1))
    _, token = tokens.add(next(name for name in names if name not in taken))
    return token
