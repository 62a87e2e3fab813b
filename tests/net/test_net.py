"""The one session: who gets what, through which door, and what foreign errors become. Real servers, real TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

from llmctl import net
from llmctl.errors import CertificateError, ConfigError, LlmctlError, NetworkError, UsageError
from tests.fakes.hub import FakeHub


class Server:
    """Answers everything with 200, or redirects to ``location``. Notes what it was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.location: str | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                self.send_response(302 if outer.location else 200)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        class Quiet(HTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that refuse our certificate are what is tested."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    file = tmp_path / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return made, file


@pytest.fixture
def tls_server(authority: tuple[trustme.CA, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    made = Server(context)
    yield made
    made.close()


def get(url: str) -> bytes:
    for response in net.hops("GET", url, doing="asking", headers={}, secret={"Authorization": "Bearer x"}):
        if not response.is_redirect:
            return b"".join(net.pieces(response, "asking"))
    raise AssertionError("hops end with an answer or an error")


def test_loopback_needs_no_proxy_whatever_the_environment_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(server.url) == b"ok"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_other_hosts_go_through_the_proxy(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, server.url)
    assert get("http://hub.example/x") == b"ok"
    assert server.asked[0][0] == "http://hub.example/x"


def test_no_proxy_is_honoured_for_each_host_on_the_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """hub.invalid may not go through the proxy, and can't be reached without it."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "hub.invalid")
    server.location = "http://hub.invalid/y"
    with pytest.raises(NetworkError, match=r"hub\.invalid can't be reached"):
        get("http://hub.example/x")


def test_what_every_request_says_and_does_not_say(server: Server, home: Path) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    with net.session(server.url) as session:
        session.get(server.url)
    headers = server.asked[0][1]
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("llmctl/")
    assert "Authorization" not in headers


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_private_ca(
    variable: str, tls_server: Server, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CertificateError, match=r"127\.0\.0\.1:\d+ could not be verified") as caught:
        get(tls_server.url)
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
    assert tls_server.asked == []
    monkeypatch.setenv(variable, str(authority[1]))
    assert get(tls_server.url) == b"ok"


def test_the_systems_trust_counts_behind_a_proxy_too() -> None:
    import truststore

    with net.session("https://hub.example") as session:
        adapter = session.get_adapter("https://hub.example")
        direct = adapter.poolmanager.connection_pool_kw["ssl_context"]  # type: ignore[attr-defined]
        proxied = adapter.proxy_manager_for("http://127.0.0.1:9").connection_pool_kw["ssl_context"]  # type: ignore[attr-defined]
    assert isinstance(direct, truststore.SSLContext)
    assert isinstance(proxied, truststore.SSLContext)


def test_a_ca_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonesuch/ca.pem")
    with pytest.raises(ConfigError, match=r"/nonesuch/ca\.pem"):
        net.session("https://hub.example")


def test_a_redirect_from_https_to_http_is_not_followed(
    tls_server: Server, server: Server, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    tls_server.location = server.url
    with pytest.raises(NetworkError, match="followed safely"):
        get(tls_server.url)
    assert server.asked == []


def test_secrets_stay_with_the_origin(server: Server) -> None:
    other = Server()
    server.location = other.url
    assert get(server.url) == b"ok"
    assert server.asked[0][1]["Authorization"] == "Bearer x"
    assert "Authorization" not in other.asked[0][1]
    other.close()


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("http://nonesuch.invalid/path?key=secret", NetworkError, r"nonesuch\.invalid can't be reached"),
        ("http://127.0.0.1:9/path?key=secret", NetworkError, r"127\.0\.0\.1:9 can't be reached \(Connection refused\)"),
        ("nothing", UsageError, "not a usable address"),
    ],
)
def test_errors_name_the_host_and_no_secret(url: str, kind: type[LlmctlError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        get(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("proxy", ["http://user:secret@proxy.example:x", "http://[::1", "http://proxy.example:99999"])
def test_a_proxy_that_can_be_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match="the proxy for https is not a usable address") as caught:
        get("https://example.org/")
    assert "HTTPS_PROXY" in str(caught.value.hint) and "secret" not in f"{caught.value.message}{caught.value.hint}"


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("llmctl.net.timing.TIMING", net.Timing(idle_s=0.1, answer_s=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NetworkError, match=f"{host} did not answer in time"):
            get(f"http://{host}")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hub.example/a?b=c", "hub.example"),
        ("http://me:secret@hub.example:8080/", "hub.example:8080"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert net.host_of(url) == host


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://hub.example/a", "https://hub.example:443/b", True),
        ("http://hub.example", "http://HUB.example:80/b", True),
        ("https://hub.example", "http://hub.example", False),
        ("https://hub.example", "https://hub.example:8443", False),
        ("https://hub.example", "https://cdn.hub.example", False),
        ("https://hub.example", "https://hub.example.evil.example", False),
        ("https://hub.example", "https://hub.example@evil.example", False),
    ],
)
def test_same_origin(one: str, other: str, same: bool) -> None:
    assert net.same_origin(one, other) is same


@pytest.mark.parametrize(
    ("value", "number"),
    [("7", 7), ("0" * 19, 0), ("9" * 20, None), ("", None), (None, None), ("-1", None), (" 7", None), ("\xb2", None)],
)
def test_whole_number(value: str | None, number: int | None) -> None:
    assert net.whole_number(value) == number


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("1e9", None)])
def test_retry_after(value: str, seconds: int | None) -> None:
    assert net.retry_after_s({"Retry-After": value}) == seconds


def test_retry_after_a_date_to_come() -> None:
    seconds = net.retry_after_s({"Retry-After": formatdate(time.time() + 90, usegmt=True)})
    assert seconds is not None
    assert 60 < seconds <= 90


class Halting:
    """Sends a head, ``sent`` and, once it is ``let_go``, nothing more: it closes the connection."""

    def __init__(self, sent: list[bytes], promised_bytes: int) -> None:
        self.let_go = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._parts = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % promised_bytes, *sent]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with self._listening, connection:
            connection.recv(65536)
            for part in self._parts:
                connection.sendall(part)
            self.let_go.wait(10)


def test_what_has_come_in_does_not_wait_for_what_has_not() -> None:
    server = Halting([b"x" * 1000], 5000)
    for response in net.hops("GET", server.url, doing="asking", headers={}, secret={}):
        coming = net.pieces(response, "asking")
        assert next(coming) == b"x" * 1000
        server.let_go.set()
        with pytest.raises(NetworkError, match="broke the connection"):
            next(coming)


def test_a_connection_is_used_again_where_sessions_are_kept() -> None:
    with FakeHub({"maker/tiny": {"file": b"x" * 300_000}}) as hub, net.Sessions() as kept:
        for _ in range(3):
            url = f"{hub.url}/maker/tiny/resolve/main/file"
            for response in net.hops("GET", url, doing="asking", headers={}, secret={}, sessions=kept):
                if not response.is_redirect:
                    assert sum(map(len, net.pieces(response, "asking"))) == 300_000
        assert sorted(hub.opened) == ["cdn", "hub"]
        assert len(hub.requests) == 6


def test_what_came_in_before_the_connection_broke_is_not_lost() -> None:
    sent = [bytes([number]) * 5000 for number in range(100)]
    server = Halting(sent, 1 << 20)
    server.let_go.set()
    received = []
    for response in net.hops("GET", server.url, doing="asking", headers={}, secret={}):
        with pytest.raises(NetworkError, match="broke the connection"):
            for piece in net.pieces(response, "asking", at_once_bytes=70_000):
                assert len(piece) <= 70_000
                received.append(piece)
    assert b"".join(received) == b"".join(sent)
