"""``llmctl doctor`` in a real process: what it connects to, counted, and how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.chat_server import ChatServer, Handler
from tests.fakes.command import llmctl
from tests.fakes.connections import watch
from tests.fakes.hub import FakeHub


def models(handler: Handler) -> None:
    data = json.dumps({"data": [{"id": "m"}]}).encode()
    handler.head(200, Content_Length=str(len(data)))
    handler.wfile.write(data)


@pytest.mark.usefixtures("measured")
def test_nothing_leaves_unless_it_was_asked_for(tmp_path: Path) -> None:
    hook, connections = watch(tmp_path)
    with FakeHub({}) as hub:
        done = llmctl("doctor", "--strict", HF_ENDPOINT=hub.url, PYTHONPATH=hook)
        assert done.returncode == 0, done.stdout + done.stderr
        captured = llmctl("doctor", "--capture", "machine", HF_ENDPOINT=hub.url, PYTHONPATH=hook)
        assert captured.returncode == 0, captured.stderr
        assert connections() == []
        asked = llmctl("doctor", "--network", "--json", HF_ENDPOINT=hub.url, PYTHONPATH=hook)
        assert asked.returncode == 0, asked.stdout
        assert hub.requests
    assert connections()
    assert [line for line in connections() if "127.0.0.1" not in line] == []
    assert json.loads(asked.stdout)["data"]["machine"]["network"]["hub_reachable"] is True


@pytest.mark.usefixtures("measured")
def test_servers_of_ones_own_are_asked_unless_the_policy_forbids_it(tmp_path: Path) -> None:
    hook, connections = watch(tmp_path)
    with ChatServer(models) as server:
        added = llmctl("endpoint", "add", "office", server.address().url, "--model", "m")
        assert added.returncode == 0, added.stderr
        forbidden = llmctl("doctor", "-v", LLMCTL_POLICY="local-only", PYTHONPATH=hook)
        assert "office" not in forbidden.stdout
        assert connections() == []
        offline = llmctl("doctor", "-v", LLMCTL_OFFLINE="1", PYTHONPATH=hook)
        allowed = llmctl("doctor", "-v", PYTHONPATH=hook)
        for shown in (offline.stdout, allowed.stdout):  # a server on this machine is asked offline, too
            assert " ok    office (127.0.0.1:" in shown
        asked, _ = server.requests
    assert (asked.method, asked.path, asked.body) == ("GET", "/v1/models", b"")
    gone = llmctl("doctor")
    assert gone.returncode == 0
    assert " warn  office: asking the server: 127.0.0.1:" in gone.stdout
    assert llmctl("doctor", "--strict").returncode == 5
