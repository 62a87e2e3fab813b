"""By which proofs a gateway is used: none on this machine alone, else TLS and a token."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from msgspec import Struct

from llmctl.errors import UsageError
from llmctl.shell import command
from llmctl.workspace import own_certificate, tokens
from llmctl.workspace.own_certificate import CertificateFiles

SOMEWHERE = ("192.0.2.1", 9)  # of a network that is nobody's (RFC 5737)
KEY_FILE = "~/gateway.token"
TOKEN_NAME = "first"  # noqa: S105


class ServeAccess(Struct, frozen=True):
    """``certificate`` is None for plain http. ``new_token``, of the name ``token_name``, was made since nobody had one
    that is good: to be shown once."""

    certificate: CertificateFiles | None
    token_required: bool
    token_name: str | None = None
    new_token: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"ServeAccess({self.certificate!r}, {self.token_required})"


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
    name, token = _first_token() if token_required else (None, None)
    return ServeAccess(certificate, token_required, name, token)


def is_loopback(address: str) -> bool:
    """Whether an IP address, or ``localhost``, is this machine's own alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _first_token() -> tuple[str | None, str | None]:
    """A name and its token, where there is none that is good."""
    kept = tokens.read()
    if not all(token.has_expired() for token in kept):
        return None, None
    taken = {token.name for token in kept}
    names = (TOKEN_NAME if number == 1 else f"{TOKEN_NAME}-{number}" for number in count(1))
    made, token = tokens.add(next(name for name in names if name not in taken))
    return made.name, token


def reached_at(bound: str) -> str:
    """The address by which other machines reach what listens at ``bound``: of all of this machine's, the one that it
    uses itself. Nothing is sent to find that out."""
    if not ipaddress.ip_address(bound).is_unspecified:
        return bound
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(SOMEWHERE)
        except OSError:  # no network at all
            return socket.gethostname()
        return str(probe.getsockname()[0])


def add_command(access: ServeAccess, bound: str, port: int, seal_key: str | None = None) -> str:
    """What to type on another machine, where the token is in KEY_FILE."""
    host = reached_at(bound)
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    name = re.sub(r"[^A-Za-z0-9_-]", "", socket.gethostname().partition(".")[0])[:64] or "gateway"
    pin = () if access.certificate is None else ("--pin", access.certificate.pin)
    seal = () if seal_key is None else ("--seal-key", seal_key)
    return command("llmctl", "endpoint", "add", name, url, *pin, *seal, "--key-file", KEY_FILE)
