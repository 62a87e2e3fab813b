"""The gateway's certificate: made and kept, renewed with its key, and exchanged while requests are answered."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llmctl import paths
from llmctl.endpoint.trust import identity
from llmctl.errors import ConfigError, UsageError
from llmctl.server.tls import LiveCertificate
from llmctl.types.endpoint import Trust
from llmctl.workspace import own_certificate, serve_access, tokens
from llmctl.workspace.own_certificate import CertificateFiles
from tests.fakes import guarded


def pin_of(der: bytes) -> str:
    key = x509.load_der_x509_certificate(der).public_key()
    return "sha256:" + sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def shown(port: int) -> str:
    """The pin of the certificate in a new handshake, of a client that names no host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return pin_of(der)


async def answer(_: Request) -> Response:
    return PlainTextResponse("fine")


def write(authority: trustme.CA, folder: Path) -> str:
    """A new certificate with a new key, in the two files; its pin."""
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return own_certificate.given(folder / "cert.pem", folder / "key.pem").pin


class Running:
    """A gateway with a certificate in ``folder``."""

    def __init__(self, folder: Path, authority: trustme.CA, pin: str, port: int) -> None:
        self.folder, self.authority, self.pin, self.port = folder, authority, pin, port
        self.url = f"https://127.0.0.1:{port}/"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    authority = trustme.CA()
    pin = write(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    live = LiveCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    with guarded.listening(Starlette(routes=[Route("/", answer)]), tls=live.context) as port:
        yield Running(tmp_path, authority, pin, port)


def test_own_certificate() -> None:
    made = own_certificate.own(["192.0.2.7", "box.lan"])
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (made.certificate, made.key))
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"192.0.2.7", "box.lan", "localhost", "127.0.0.1"} <= {str(name.value) for name in names}
    assert made.pin == pin_of(certificate.public_bytes(Encoding.DER))
    before = made.certificate.read_bytes()
    assert own_certificate.own(["box.lan"]) == made and made.certificate.read_bytes() == before


def test_a_renewed_certificate_has_the_same_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(own_certificate, "DAYS", 20)
        made = own_certificate.own([])
    old = made.certificate.read_bytes()
    assert own_certificate.own([]).pin == made.pin
    new = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert made.certificate.read_bytes() != old
    assert new.not_valid_after_utc > datetime.now(UTC) + timedelta(days=800)
    assert own_certificate.own(["other.lan"]).pin == made.pin
    assert made.certificate.read_bytes() != new.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none(content: str) -> None:
    folder = paths.data_dir() / "tls"
    folder.mkdir(parents=True)
    (folder / "key.pem").write_text(content)
    with pytest.raises(ConfigError, match="no key that llmctl has made"):
        own_certificate.own([])
    assert (folder / "key.pem").read_text() == content


def test_clients_know_it_by_its_pin() -> None:
    made = own_certificate.own([])
    live = LiveCertificate(made.certificate, made.key)
    with guarded.listening(Starlette(routes=[Route("/v1/models", answer)]), tls=live.context) as port:
        url = f"https://127.0.0.1:{port}/v1"
        assert identity(url, Trust(pin=made.pin)).problem is None
        assert identity(url, Trust(ca_file=str(made.certificate))).problem is None
        assert identity(url, Trust()).problem is not None
        assert identity(url, Trust(pin="sha256:" + "0" * 64)).problem is not None


def test_a_new_certificate_drops_no_request(running: Running) -> None:
    """Some clients keep their connection, some make a new one for each request."""
    done, failures, answered = threading.Event(), list[str](), list[str]()

    def ask(*, keeps: bool) -> None:
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(running.folder / "ca.pem")
            headers = {} if keeps else {"Connection": "close"}
            while not done.is_set():
                try:
                    answered.append(session.get(running.url, headers=headers, timeout=10).text)
                except requests.RequestException as error:
                    failures.append(str(error))

    clients = [threading.Thread(target=ask, kwargs={"keeps": keeps}) for keeps in (True, True, False)]
    for client in clients:
        client.start()
    pins = [running.pin]
    for _ in range(3):
        pins.append(write(running.authority, running.folder))
        assert shown(running.port) == pins[-1]
        before = len(answered)
        while len(answered) < before + 5:
            time.sleep(0.01)
    done.set()
    for client in clients:
        client.join()
    assert failures == []
    assert len(set(pins)) == 4 and set(answered) == {"fine"}


def test_files_that_do_not_belong_together(running: Running) -> None:
    """As they are for a moment when one of them is written before the other."""
    issued = running.authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(running.folder / "cert.pem")
    assert shown(running.port) == running.pin
    (running.folder / "cert.pem").write_text("nothing")
    assert shown(running.port) == running.pin
    (running.folder / "cert.pem").unlink()
    assert shown(running.port) == running.pin
    issued.cert_chain_pems[0].write_to_path(running.folder / "cert.pem")
    issued.private_key_pem.write_to_path(running.folder / "key.pem")
    assert shown(running.port) not in (running.pin, "")


@pytest.mark.parametrize("lacking", ["cert.pem", "key.pem"])
def test_no_certificate_no_start(tmp_path: Path, lacking: str) -> None:
    write(trustme.CA(), tmp_path)
    (tmp_path / lacking).unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        LiveCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    (tmp_path / lacking).write_text("x")
    with pytest.raises(ConfigError, match="no certificate and its key"):
        LiveCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("bound", "has_certificate", "needs_token"),
    [
        *(("127.0.0.1", False, False), ("::1", False, False), ("127.0.0.9", False, False), ("localhost", False, False)),
        *(("0.0.0.0", True, True), ("::", True, True), ("192.0.2.7", True, True), ("2001:db8::1", True, True)),
    ],
)
def test_what_an_address_needs(bound: str, has_certificate: bool, needs_token: bool) -> None:
    needed = serve_access.prepared(bound)
    assert (needed.certificate is not None, needed.token_required) == (has_certificate, needs_token)
    assert (needed.new_token is not None) == needs_token
    if needed.new_token is not None:
        kept = tokens.KnownTokens().of(needed.new_token)
        assert kept is not None and kept.name == "first"
        assert serve_access.prepared(bound).new_token is None


def test_a_first_token_where_all_have_expired() -> None:
    tokens.add("first", expires_s=0.001)
    needed = serve_access.prepared("127.0.0.1", require_token=True)
    assert needed.certificate is None and needed.new_token is not None and needed.token_name == "first-2"
    assert [token.name for token in tokens.read()] == ["first", "first-2"]


def test_a_certificate_of_the_users(tmp_path: Path) -> None:
    pin = write(trustme.CA(), tmp_path)
    files: dict[str, Any] = {"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    certificate = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem", pin)
    for bound in ("127.0.0.1", "0.0.0.0"):
        assert serve_access.prepared(bound, **files).certificate == certificate
    with pytest.raises(UsageError, match="--tls-cert needs --tls-key"):
        serve_access.prepared("0.0.0.0", tls_cert=files["tls_cert"])
    with pytest.raises(ConfigError, match="no certificate in PEM"):
        serve_access.prepared("0.0.0.0", tls_cert=files["tls_key"], tls_key=files["tls_key"])
