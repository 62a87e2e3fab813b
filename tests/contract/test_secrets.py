"""A run with a marked key, wherever it is kept: the key is in nothing that llmctl writes or says, nor in arguments."""

from __future__ import annotations

import ssl
from pathlib import Path

import psutil
import pytest
import trustme

from tests.fakes.chat_server import DONE, ChatServer, Handler, event, status, stream
from tests.fakes.command import alone, llmctl
from tests.fakes.socks import tunnel

KEY = "sk-Marked-for-the-search-0123456789"
HELLO = stream(event("Hi", finish="stop"), DONE)
WRONG = status(401, {"error": {"message": f"wrong key {KEY}"}})
COMMANDS = (("run", "-e", "office", "--json", "hi"), ("run", "-e", "office", "hi"), ("endpoint", "list", "--json"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Beside the home that is searched."""
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


PASSWORD = "Marked-password-0123456789"


@pytest.fixture
def wants_a_certificate(tmp_path: Path) -> ssl.SSLContext:
    """A server's; beside the home lie what it trusts by (ca.pem), and what it wants to see (me.pem, me.key)."""
    server_ca, client_ca = trustme.CA(), trustme.CA()
    server_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = client_ca.issue_cert("me@example.internal")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    (tmp_path / "me.key").touch(mode=0o600)
    (tmp_path / "me.key").write_bytes(issued.private_key_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_ca.issue_cert("llm.example.internal").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client_ca.configure_trust(context)
    return context


def test_a_client_key_and_a_proxys_password_are_nowhere(
    wants_a_certificate: ssl.SSLContext, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that wants a password; then the server refuses, then the proxy, which repeats the password."""
    refused = status(407, f"no: {PASSWORD}".encode())
    with ChatServer(HELLO, status(401), tls=wants_a_certificate) as server:
        with ChatServer(tunnel(server.port), tunnel(server.port), refused) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@{proxy.host}")
            files = [f"--{option}={tmp_path / file}" for option, file in FILES.items()]
            added = llmctl("endpoint", "add", "office", "https://llm.example.internal", "-m", "m", *files)
            asked = [llmctl("run", "-e", "office", "--json", "hi") for _ in range(3)]
            shown = [llmctl("endpoint", "show", "office", "--json"), llmctl("route", "-e", "office")]
        assert [connect.headers["proxy-authorization"][:6] for connect in proxy.requests] == ["Basic "] * 5, (
            "the one that refuses is tried again"
        )
    assert [done.returncode for done in (added, *asked, *shown)] == [0, 0, 9, 5, 0, 0]
    secrets = [PASSWORD, *(tmp_path / "me.key").read_text().splitlines()[1:-1]]
    said = "".join(done.stdout + done.stderr for done in (added, *asked, *shown))
    written = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert written and not [secret for secret in secrets if secret in said or secret.encode() in written]


FILES = {"ca-file": "ca.pem", "client-cert": "me.pem", "client-key": "me.key"}


@pytest.mark.parametrize("source", ["env", "file", "command"])
def test_the_key_is_nowhere(source: str, key_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[str] = []

    def answers(handler: Handler) -> None:
        for process in psutil.Process().children(recursive=True):
            arguments.extend(process.cmdline())
        HELLO(handler)

    options = {"env": "--key-env OFFICE_KEY", "file": f"--key-file {key_file}"}
    option = options[source].split() if source in options else ["--key-cmd", f"cat {key_file}"]
    if source == "env":
        monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(answers, answers, WRONG) as server:
        added = llmctl("endpoint", "add", "office", server.url, "-m", "m", "--readers", "me alone", *option)
        done = [alone(*COMMANDS[0]), *(llmctl(*command) for command in (*COMMANDS[1:], COMMANDS[0]))]
    assert [each.returncode for each in (added, *done)] == [0, 0, 0, 0, 9]
    assert [asked.headers["authorization"] for asked in server.requests] == [f"Bearer {KEY}"] * 3
    assert done[1].stderr.splitlines()[1] == "  who can read it there: me alone"
    assert KEY not in "".join(each.stdout + each.stderr for each in (added, *done))
    assert "run" in arguments and KEY not in "".join(arguments)
    written = [file for file in home.rglob("*") if file.is_file()]
    assert written and not [file for file in written if KEY.encode() in file.read_bytes()]
