"""Commands against servers that mean no good: Ctrl-C ends each soon, without a traceback, and memory stays small."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.command import llmctl, spawn
from tests.fakes.hostile import HOSTILE
from tests.fakes.preloaded import Forked

SOON_S = 2.5  # a second on a machine that is idle
MOST_KB = 150_000


def added(server: ChatServer, name: str = "office") -> None:
    done = llmctl("endpoint", "add", name, server.url, "--model", "m")
    assert done.returncode == 0, done.stderr


def interrupted(process: Forked, *servers: ChatServer) -> str:
    """What it says on stderr when Ctrl-C comes while it waits for ``servers``; it has to end soon."""
    deadline_s = time.monotonic() + 60
    while not all(server.requests for server in servers):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    time.sleep(0.3)
    status = Path(f"/proc/{process.pid}/status")
    peak = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    assert int(peak[0]) < MOST_KB
    process.send_signal(signal.SIGINT)
    begun_s = time.monotonic()
    errors = process.communicate(timeout=30)[1].decode()
    assert time.monotonic() - begun_s < SOON_S
    assert process.returncode == 130
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    "name", ["trickling headers", "trickling body", "stalled", "silent", "pings", "flood of pings", "endless trailers"]
)
def test_a_chat_is_interrupted(name: str) -> None:
    with ChatServer(HOSTILE[name]) as server:
        added(server)
        with spawn("run", "--endpoint", "office", "hi") as process:
            interrupted(process, server)


@pytest.mark.usefixtures("measured")
def test_doctor_is_interrupted_while_it_asks_servers() -> None:
    names = ["trickling headers", "trickling body", "stalled", "endless trailers"]
    servers = [ChatServer(HOSTILE[name]) for name in names]
    with servers[0], servers[1], servers[2], servers[3]:
        for number, server in enumerate(servers):
            added(server, f"office{number}")
        with spawn("doctor") as process:
            interrupted(process, *servers)


@pytest.mark.parametrize("name", ["trickling headers", "trickling body", "stalled", "endless body"])
@pytest.mark.parametrize("arguments", [("pull", "org/name-GGUF"), ("models", "refresh")], ids=["pull", "refresh"])
def test_asking_a_hub_is_interrupted(name: str, arguments: tuple[str, ...]) -> None:
    with ChatServer(HOSTILE[name]) as server, spawn(*arguments, LLMCTL_HUB_URL=f"http://{server.host}") as process:
        if name == "endless body":
            assert process.wait(60) == 5
        else:
            interrupted(process, server)


def test_a_download_that_waits_for_headers_is_interrupted() -> None:
    with ChatServer(HOSTILE["silent"]) as server:
        url = f"http://{server.host}/model.gguf"
        with spawn("pull", "--sha256", "0" * 64, url) as process:
            assert "model.gguf: stopped" in interrupted(process, server)


def test_a_refused_key_is_said_at_once_though_its_page_stalls() -> None:
    with ChatServer(HOSTILE["refusal that stalls"]) as server:
        added(server)
        begun_s = time.monotonic()
        done = llmctl("run", "--endpoint", "office", "hi")
    assert done.returncode == 9
    assert f"error: {server.host} wants a key (401)\n" in done.stderr
    assert time.monotonic() - begun_s < 20


@pytest.mark.parametrize(
    ("delta", "finish", "arguments", "warning"),
    [
        ({"content": "Hel"}, "content_filter", (), "the answer was cut off by the server's content filter"),
        ({"refusal": "No."}, "stop", (), "the model refused to answer"),
        ({"content": "Hel"}, "length", (), "the answer was cut off at the server's limit (-n NUMBER"),
        ({"content": "Hel"}, "recitation\x1b[2J", (), "the server ended the answer: recitation\n"),
        ({"content": "Hel"}, "length", ("-n", "5"), None),
        ({"content": "Hel"}, "stop", (), None),
    ],
)
def test_why_an_answer_ended_early_is_said(
    delta: dict[str, str], finish: str, arguments: tuple[str, ...], warning: str | None
) -> None:
    with ChatServer(stream(event(**delta, finish=finish), DONE)) as server:
        added(server)
        done = llmctl("run", "--endpoint", "office", *arguments, "hi")
    assert done.returncode == 0
    assert done.stdout == "".join(delta.values()) + "\n"
    assert ("warning:" in done.stderr) == (warning is not None)
    assert warning is None or f"warning: {warning}" in done.stderr
