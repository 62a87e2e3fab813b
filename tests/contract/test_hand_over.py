"""Handing over to a private server: llama-cpp-python's own, with TLS, a key and a test CA."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
import trustme

from tests.fakes.command import document, kill_engine_of, llmctl, spawn

pytestmark = pytest.mark.usefixtures("measured")

KEY = "sk-of-the-office"


@dataclass(frozen=True)
class Server:
    url: str
    ca_file: str
    log: Path


@pytest.fixture(scope="module")
def server(endless_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(endless_file), "--n_ctx", "8192"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--model_alias", "office-model", "--api_key", KEY]
    command += ["--ssl_keyfile", str(folder / "key.pem"), "--ssl_certfile", str(folder / "cert.pem")]
    command += ["--n_threads", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            url = f"https://127.0.0.1:{port}"
            _wait_for(url, str(folder / "ca.pem"), process)
            yield Server(url, str(folder / "ca.pem"), folder / "log")
        finally:
            process.kill()
            process.wait()


def _wait_for(url: str, ca_file: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(f"{url}/v1/models", verify=ca_file, timeout=2)
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"the private server did not start (exit {process.poll()})")


@pytest.fixture
def office(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server added as an endpoint, its key in the environment."""
    monkeypatch.setenv("OFFICE_KEY", KEY)
    done = llmctl(
        "endpoint", "add", "office", server.url, "--model", "office-model", "--key-env", "OFFICE_KEY",
        "--ca-file", server.ca_file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return server


def chats(server: Server) -> int:
    return server.log.read_text().count("POST /v1/chat/completions")


def test_pinned(office: Server) -> None:
    done = llmctl("run", "--endpoint", "office", "-n", "8", "--json", "Say hello.")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    assert data["text"]
    assert data["route"]["side"] == "remote"
    assert data["route"]["endpoint"] == "office"
    assert data["route"]["model"] == "office-model"
    assert data["left_machine"]["host"] == office.url.removeprefix("https://")
    assert data["left_machine"]["tls"] is True
    assert data["left_machine"]["bytes"] > 50
    assert f"→ office ({office.url.removeprefix('https://')}, office-model): you asked for it" in done.stderr
    assert KEY not in done.stderr + done.stdout


def test_the_server_is_looked_at(office: Server) -> None:
    done = llmctl("endpoint", "test", "office", "--json")
    assert done.returncode == 0, done.stdout
    found = {check["id"]: check["status"] for check in document(done)["data"]["checks"]}
    assert {id: found[id] for id in ("tls", "key", "models", "answer", "stream")} == dict.fromkeys(
        ("tls", "key", "models", "answer", "stream"), "ok"
    )
    assert {"tools", "schema"} <= set(found)
    assert KEY not in done.stderr + done.stdout


def test_quiet_does_not_hide_that_a_prompt_leaves(office: Server) -> None:
    done = llmctl("run", "-e", "office", "-n", "4", "--quiet", "Hi")
    assert done.returncode == 0
    assert done.stderr.startswith("→ office (")
    assert len(done.stderr.splitlines()) == 1


def test_what_fits_stays_here(office: Server, endless_file: Path) -> None:
    before = chats(office)
    done = llmctl("run", "-m", str(endless_file), "-n", "4", "--json", "Hi")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    assert data["route"]["side"] == "local"
    assert data["left_machine"] is None
    assert chats(office) == before


def test_a_prompt_longer_than_the_context_of_a_named_model_stays(office: Server, endless_file: Path) -> None:
    before = chats(office)
    done = llmctl("run", "-m", str(endless_file), "--context", "512", "-n", "4", "--json", stdin="word " * 900)
    assert done.returncode == 2, done.stderr
    error = document(done)["error"]
    assert error["code"] == "context"
    assert "local context is 512" in error["message"]
    assert "nothing was sent to office" in error["message"]
    assert "llmctl run --endpoint office" in error["hint"]
    assert chats(office) == before


@pytest.mark.skipif(psutil.virtual_memory().total > 40 << 30, reason="70 billion weights fit this machine")
def test_a_named_model_that_does_not_fit_stays(office: Server) -> None:
    before = chats(office)
    big = ("run", "-m", "llama-3.3-70b-instruct:Q4_K_M", "-n", "4", "--json", "Hi")
    for refused in (llmctl(*big), llmctl(*big, "--local"), llmctl(*big, LLMCTL_POLICY="local-only")):
        assert refused.returncode == 3
        assert document(refused)["error"]["code"] == "nothing_fits"
        assert "short" in document(refused)["error"]["message"]
    assert chats(office) == before


def test_what_does_not_fit_goes_to_the_server(office: Server) -> None:
    done = llmctl("run", "-n", "4", "--json", "Hi", LLMCTL_MIN_TOK_S="1e9")
    assert done.returncode == 0, done.stderr
    data = document(done)["data"]
    assert data["route"]["side"] == "remote"
    assert data["route"]["left_because"] == "nothing-fits"
    assert data["predicted"] is None
    assert "→ office (" in done.stderr


def test_local_pins(office: Server, endless_file: Path) -> None:
    before = chats(office)
    done = llmctl("run", "-m", str(endless_file), "--context", "512", "-n", "4", "--local", stdin="word " * 900)
    assert done.returncode == 2
    assert "the context is 512" in done.stderr or "local context is 512" in done.stderr
    assert chats(office) == before


def test_the_engine_of_a_named_model_killed_before_its_first_token(office: Server, starter_file: Path) -> None:
    before = chats(office)
    with spawn("run", "-m", str(starter_file), "--context", "4096", "-n", "8", "--json", "word " * 2500) as process:
        kill_engine_of(process, after_s=0.8)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 8, stderr
        error = json.loads(stdout)["error"]
        assert error["code"] == "engine_died"
        assert "signal 9" in error["message"]
        assert "nothing was sent to office" in error["message"]
        assert b"Traceback" not in stderr
    assert chats(office) == before


def test_an_unknown_certificate_is_never_trusted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    added = llmctl("endpoint", "add", "office", server.url, "--model", "m", "--key-env", "OFFICE_KEY")
    assert added.returncode == 0
    before = chats(server)
    done = llmctl("run", "-e", "office", "Hi")
    assert done.returncode == 5
    assert "certificate" in done.stderr
    assert "Traceback" not in done.stderr
    assert chats(server) == before


def test_a_wrong_or_missing_key(office: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", "sk-wrong-key")
    done = llmctl("run", "-e", "office", "Hi")
    assert done.returncode == 9
    assert "sk-wrong-key" not in done.stderr
    monkeypatch.delenv("OFFICE_KEY")
    done = llmctl("run", "-e", "office", "Hi")
    assert done.returncode == 9
    assert "OFFICE_KEY" in done.stderr


def test_policy_local_only_wins_over_a_pinned_endpoint(office: Server) -> None:
    before = chats(office)
    done = llmctl("run", "-e", "office", "Hi", LLMCTL_POLICY="local-only")
    assert done.returncode == 11
    assert chats(office) == before
