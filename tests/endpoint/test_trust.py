"""Certificates that no authority vouches for: pinned by their key, which is looked at in every handshake."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from msgspec.structs import replace

from llmctl.endpoint.client import TRIES
from llmctl.endpoint.health import health
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.trust import identity
from llmctl.errors import CertificateError, ConfigError, NetworkError
from llmctl.net.certificate import certificate
from llmctl.types.endpoint import SYSTEM_TRUST, Address, Endpoint, Trust
from tests.fakes.chat_server import ChatServer, status
from tests.fakes.listening import HELLO, KEY, SOON, listen
from tests.fakes.socks import SocksProxy, tunnel

OTHER_PIN = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Server:
    """What a server shows of itself. ``pin`` is made of its private key, not of its certificate."""

    context: ssl.SSLContext
    ca_file: str
    pin: str


def made_server(folder: Path, name: str, *, expired: bool = False) -> Server:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ends = datetime.now(UTC) - timedelta(days=2) if expired else None
    issued = authority.issue_cert(name, not_after=ends, not_before=ends and ends - timedelta(days=9))
    issued.configure_cert(context)
    ca_file = folder / f"{name}-{expired}.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    public = load_pem_private_key(issued.private_key_pem.bytes(), None).public_key()
    key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Server(context, str(ca_file), f"sha256:{sha256(key).hexdigest()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="module")
def private(folder: Path) -> Server:
    return made_server(folder, "127.0.0.1")


@pytest.fixture(scope="module")
def misnamed(folder: Path) -> Server:
    return made_server(folder, "llm.example.internal")


@pytest.fixture(scope="module")
def expired(folder: Path) -> Server:
    return made_server(folder, "127.0.0.1", expired=True)


@pytest.mark.parametrize("which", ["private", "misnamed", "expired"])
def test_the_pinned_key_is_enough(which: str, request: pytest.FixtureRequest) -> None:
    shown: Server = request.getfixturevalue(which)
    with ChatServer(HELLO, tls=shown.context) as server:
        address = replace(server.address(token=KEY), trust=Trust(pin=shown.pin))
        assert listen(address).text == "Hello"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_another_key_gets_nothing(private: Server) -> None:
    with ChatServer(HELLO, tls=private.context) as server:
        address = replace(server.address(token=KEY), trust=Trust(pin=OTHER_PIN))
        with pytest.raises(CertificateError, match=f"the certificate's key is {private.pin}, not the one") as caught:
            listen(address)
    assert "llmctl endpoint test" in str(caught.value.hint)
    assert (server.requests, server.connections) == ([], 1)


def test_every_connection_is_looked_at(private: Server, misnamed: Server) -> None:
    """The first try meets the pinned key, the second one, after an error, somebody else on the same port."""
    with ChatServer(status(503), tls=private.context) as server:
        address = replace(server.address(token=KEY), trust=Trust(pin=private.pin))
        with pytest.raises(NetworkError):
            listen(address, timing=SOON)
        assert (len(server.requests), server.connections) == (TRIES, TRIES)
        port = server.port
    with ChatServer(HELLO, tls=misnamed.context, port=port) as impostor, pytest.raises(CertificateError):
        listen(address)
    assert impostor.requests == []


@pytest.mark.parametrize(
    ("ca_of", "pin_of", "is_trusted"),
    [("private", "private", True), ("misnamed", "private", False), ("private", "misnamed", False)],
)
def test_beside_a_ca_file_both_must_hold(
    ca_of: str, pin_of: str, is_trusted: bool, private: Server, request: pytest.FixtureRequest
) -> None:
    trust = Trust(request.getfixturevalue(ca_of).ca_file, request.getfixturevalue(pin_of).pin)
    with ChatServer(HELLO, tls=private.context) as server:
        address = replace(server.address(token=KEY), trust=trust)
        if is_trusted:
            assert listen(address).text == "Hello"
        else:
            with pytest.raises(CertificateError):
                listen(address)
    assert len(server.requests) == is_trusted


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize("is_pinned", [True, False])
def test_through_a_proxy_the_servers_key_counts(
    kind: str, is_pinned: bool, private: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Trust(pin=private.pin if is_pinned else OTHER_PIN)
    address = Address("https://llm.example.internal/v1", "m", KEY, trust)
    with ChatServer(HELLO, tls=private.context) as server:
        by_http, by_socks = ChatServer(tunnel(server.port)), SocksProxy(("127.0.0.1", server.port))
        with by_http, by_socks:
            monkeypatch.setenv("HTTPS_PROXY", f"{kind}://{by_http.host if kind == 'http' else by_socks.address}")
            if is_pinned:
                assert listen(address).text == "Hello"
            else:
                with pytest.raises(CertificateError, match="not the one that is pinned"):
                    listen(address)
        asked = [each.path for each in by_http.requests] + by_socks.asked
    assert asked == ["llm.example.internal:443"]
    assert len(server.requests) == is_pinned


def test_a_pin_of_plain_http_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="its address is not https"):
        address_of(Endpoint("home", "http://127.0.0.1:8080/v1", "m", trust=Trust(pin=OTHER_PIN)))


def test_health_looks_at_the_pin_too(private: Server) -> None:
    with ChatServer(HELLO, tls=private.context) as server:
        state = health(Endpoint("office", server.url, "m", trust=Trust(pin=OTHER_PIN)))
    assert "not the one that is pinned" in (state.wrong or "")
    assert server.requests == []


def test_who_answers(private: Server) -> None:
    with ChatServer(status(200, {}), tls=private.context) as server:
        unknown = identity(server.url, SYSTEM_TRUST)
        by_file = identity(server.url, Trust(private.ca_file))
        by_pin = identity(server.url, Trust(pin=private.pin))
        other = identity(server.url, Trust(pin=OTHER_PIN))
    assert [seen.problem is None for seen in (unknown, by_file, by_pin, other)] == [False, True, True, False]
    assert {seen.certificate.pin for seen in (unknown, by_file, by_pin, other)} == {private.pin}
    assert unknown.tls == "TLSv1.3"
    assert unknown.certificate.names == ("127.0.0.1",)
    assert unknown.certificate.days_left > 0
    assert [(asked.method, "authorization" in asked.headers) for asked in server.requests] == [("HEAD", False)] * 4


def test_a_certificate_that_has_ended(expired: Server) -> None:
    with ChatServer(status(200, {}), tls=expired.context) as server:
        assert identity(server.url, Trust(pin=expired.pin)).certificate.days_left < 0


@pytest.mark.parametrize("der", [b"", b"0", b"\x30\x82\xff\xff", b"\x00" * 100])
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(CertificateError, match="can't be read"):
        certificate(der)
