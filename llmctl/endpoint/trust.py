"""Who answers at an https address, and whether that is proved."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from msgspec import Struct

from llmctl import net
from llmctl.errors import CertificateError
from llmctl.types.endpoint import Trust

if TYPE_CHECKING:
    from llmctl.net.certificate import Certificate

DOING = "looking at the certificate"
TIMING = net.Timing(connect_s=2.0, idle_s=3.0, answer_s=3.0)


class Identity(Struct, frozen=True):
    """``problem`` says why the certificate proves nothing, None where it does. ``tls`` is the version, "TLSv1.3"."""

    certificate: Certificate
    tls: str
    problem: str | None = None


def identity(url: str, trust: Trust, proxy: str | None = None) -> Identity:
    """Who answers at ``url`` now. Neither a key nor a prompt is sent, nor the address's path. Raises NetworkError where
    nobody does, AccessError where a certificate of ours is wanted, and ConfigError for a CA file that isn't there."""
    from llmctl.net.certificate import certificate

    where, problem = urljoin(url, "/"), None
    try:
        with (
            net.session(where, trust=trust, proxy=proxy, timing=TIMING) as session,
            net.translated(where, DOING),
            session.ask("HEAD", where),
        ):
            peer = session.exchange.peer
    except CertificateError as error:
        peer, problem = net.unverified_peer(where, TIMING, proxy=proxy), error.message.removeprefix(f"{DOING}: ")
    assert peer is not None, "it is an https address"
    return Identity(certificate(peer.certificate), peer.version, problem)
