"""`llmctl serve` for other machines, as those meet it: TLS by a pin, tokens, and what is shown of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from llmctl.workspace import engines, gateways
from tests.fakes.command import document, llmctl, spawn
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_scripted(tmp_path_factory.mktemp("serve") / "tiny.gguf", ["The", " answer"]))


@pytest.fixture
def served(model: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The document of a gateway that listens on every address of this machine."""
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with spawn("serve", model, "--host", "0.0.0.0", "--port", "0", "--json") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield json.loads(line)["data"]
    gateways.stop(gateways.running(), within_s=0.1)
    engines.stop(None)


def status(address: str, token: str | None, path: str = "/models", **headers: str) -> int:
    """Of a client that doesn't look who answers."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    urllib3.disable_warnings()
    return requests.get(f"{address}{path}", headers=headers, verify=False, timeout=20).status_code  # noqa: S501


def test_another_machine(served: dict[str, Any], home: Path) -> None:
    address, token = served["address"], served["token"]
    assert address.startswith("https://127.0.0.1:") and served["token_required"]
    assert [status(address, given) for given in (None, "other", token[:-1], token)] == [401, 401, 401, 200]
    assert status(address, token, Host="rebound.example") == 421
    with pytest.raises(requests.ConnectionError):
        requests.get(address.replace("https:", "http:"), timeout=20)

    add = shlex.split(served["endpoint_add"])
    assert add[:3] == ["llmctl", "endpoint", "add"] and add[5:7] == ["--pin", served["pin"]]
    key_file = home / "gateway.token"
    key_file.touch(0o600)
    key_file.write_text(token)
    added = llmctl("endpoint", "add", "box", address, *add[5:])
    assert added.returncode == 0, added.stderr
    answered = document(llmctl("run", "--endpoint", "box", "--json", "hi"))
    assert answered["data"]["text"].strip() == "The answer" and answered["data"]["left_machine"]["tls"]
    told = document(llmctl("endpoint", "test", "box", "--json"))["data"]["checks"]
    assert {check["id"]: check["status"] for check in told}["privacy"] == "ok"

    assert llmctl("token", "revoke", "first").returncode == 0
    assert status(address, token) == 401
    new = llmctl("token", "add", "laptop", "--models", "other").stdout.strip()
    assert status(address, new) == 200
    asked = {"messages": [{"role": "user", "content": "hi"}], "model": "auto"}
    bearer = {"Authorization": f"Bearer {new}"}
    other = requests.post(f"{address}/chat/completions", json=asked, headers=bearer, verify=False, timeout=20)  # noqa: S501
    assert (other.status_code, other.json()["error"]["code"]) == (403, "model_not_allowed")
    written = [file for file in home.rglob("*") if file.is_file() and file != key_file]
    assert not [file for file in written if token.encode() in file.read_bytes() or new.encode() in file.read_bytes()]


def test_a_certificate_without_its_key(model: str, home: Path) -> None:
    refused = llmctl("serve", model, "--port", "0", "--tls-cert", "a.pem")
    assert refused.returncode == 2 and "--tls-cert needs --tls-key beside it" in refused.stderr
    broken = llmctl("serve", model, "--port", "0", "--tls-cert", "a.pem", "--tls-key", "b.pem")
    assert broken.returncode == 10 and "a.pem can't be read" in broken.stderr
