"""Servers that want to know who asks, and a proxy of an endpoint's own on the way there."""

from __future__ import annotations

import ssl
import traceback
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec.structs import replace

from llmctl.cli import main
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.trust import identity
from llmctl.errors import AccessError, ConfigError, LlmctlError, NetworkError, PolicyError
from llmctl.settings import add_endpoint, load
from llmctl.types.endpoint import ClientCertificate, Endpoint, Trust
from tests.fakes.chat_server import ChatServer
from tests.fakes.listening import HELLO, SOON, listen
from tests.fakes.socks import tunnel

SERVER_CA, CLIENT_CA, OTHER_CA = trustme.CA(), trustme.CA(), trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA's file, and certificates with their keys: one that the server knows, one of another CA."""
    place = tmp_path_factory.mktemp("clients")
    SERVER_CA.cert_pem.write_to_path(str(place / "ca.pem"))
    for name, authority in (("known", CLIENT_CA), ("other", OTHER_CA)):
        issued = authority.issue_cert("me@example.internal")
        (place / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        _write_private(place / f"{name}.key", issued.private_key_pem.bytes())
    key = load_pem_private_key((place / "known.key").read_bytes(), None)
    _write_private(
        place / "locked.key",
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
    )
    return place


def _write_private(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    """A server that talks to nobody without a certificate of the clients' CA."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.maximum_version = request.param
    SERVER_CA.issue_cert("127.0.0.1", "llm.example.internal").configure_cert(made)
    made.verify_mode = ssl.CERT_REQUIRED
    CLIENT_CA.configure_trust(made)
    return made


def office(server: ChatServer, folder: Path, name: str | None) -> Endpoint:
    client = None if name is None else ClientCertificate(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    return Endpoint("office", server.url, "m", trust=Trust(str(folder / "ca.pem"), client=client))


def test_the_server_knows_who_asks(context: ssl.SSLContext, folder: Path) -> None:
    with ChatServer(HELLO, tls=context) as server:
        endpoint = office(server, folder, "known")
        assert listen(address_of(endpoint)).text == "Hello"
        pin = identity(endpoint.url, endpoint.trust).certificate.pin
        pinned = replace(endpoint, trust=Trust(None, pin, endpoint.trust.client))
        assert listen(address_of(pinned)).text == "Hello"


@pytest.mark.parametrize("name", [None, "other"])
def test_who_is_not_known_is_told_what_is_wanted(name: str | None, context: ssl.SSLContext, folder: Path) -> None:
    with ChatServer(HELLO, tls=context) as server, pytest.raises((AccessError, NetworkError)) as caught:
        listen(address_of(office(server, folder, name)), timing=SOON, tries=1)
    assert server.requests == []
    if isinstance(caught.value, AccessError):  # else the connection was gone before the alert was read
        assert "wants a client certificate" in caught.value.message
        assert "--client-cert" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("key", "mode", "says"),
    [
        ("known", 0o644, "is open to others (mode 0644)"),
        ("locked", 0o600, "is encrypted"),
        ("missing", None, "can't be read"),
    ],
)
def test_a_key_that_is_not_as_it_should_be(key: str, mode: int | None, says: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{key}.key"
    if mode is not None:
        _write_private(file, (folder / f"{key}.key").read_bytes())
        file.chmod(mode)
    client = ClientCertificate(str(folder / "known.pem"), str(file))
    with pytest.raises(AccessError) as caught:
        address_of(Endpoint("office", "https://llm.example.internal/v1", "m", trust=Trust(client=client)))
    assert says in caught.value.message
    lines = file.read_text().splitlines()[1:-1] if file.exists() else []
    assert not any(line in "".join(traceback.format_exception(caught.value)) for line in lines)


# A proxy of its own


def test_the_endpoints_own_proxy(context: ssl.SSLContext, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    with ChatServer(HELLO, tls=context) as server, ChatServer(tunnel(server.port)) as proxy:
        far = replace(
            office(server, folder, "known"), url="https://llm.example.internal/v1", proxy=f"http://{proxy.host}"
        )
        add_endpoint(far)
        assert load().endpoint("office") == far
        assert listen(address_of(far)).text == "Hello"
        assert {asked.path for asked in proxy.requests} == {"llm.example.internal:443"}


@pytest.mark.parametrize(
    ("url", "proxy", "error", "says"),
    [
        ("http://127.0.0.1:1/v1", "http://proxy.example:3128", ConfigError, "on this machine"),
        ("http://llm.example.internal/v1", "http://proxy.example:3128", PolicyError, "could read prompt and key"),
    ],
)
def test_where_no_proxy_may_be(url: str, proxy: str, error: type[LlmctlError], says: str) -> None:
    with pytest.raises(error, match=says):
        address_of(Endpoint("office", url, "m", plain_http=True, proxy=proxy))


PASSWORD = "Marked-password-0123456789"


@pytest.mark.parametrize("proxy", [f"http://me:{PASSWORD}@proxy.example:3128", "proxy.example:3128", "ftp://proxy"])
def test_a_proxy_that_no_file_may_hold(proxy: str, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["endpoint", "add", "office", "https://llm.example.internal", "-m", "m", "--proxy", proxy]) == 2
    config = home / "config/llmctl/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[endpoints.office]\nurl = "https://llm.example.internal/v1"\nmodel = "m"\nproxy = "{proxy}"\n')
    assert main(["endpoint", "list"]) == 10
    shown = capsys.readouterr()
    assert shown.err.count("HTTPS_PROXY") >= 2 and PASSWORD not in shown.out + shown.err
