"""Streams while nothing comes, and when somebody goes away: the client, the engine, the model's room."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.routing import Route

from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Engine
from llmctl.errors import NothingFitsError
from llmctl.server.answering import Behind, ModelRoute
from llmctl.server.app import create_app
from llmctl.server.gateway import Gateway
from llmctl.server.wire.shape import ModelRequest
from llmctl.types.endpoint import Address
from tests.fakes import gateway, guarded
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
PING = b": still at work"


def begin(url: str, **fields: Any) -> requests.Response:
    return requests.post(url + CHAT, json={"stream": True, **HI, **fields}, stream=True, timeout=30)


def lines(answer: requests.Response) -> Iterator[bytes]:
    return (line for line in answer.iter_lines() if line)


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def endless(endless_file: Path) -> Iterator[Engine]:
    with start(fit_for(endless_file, context=30_000, threads=1, name="endless")) as engine:
        yield engine


@pytest.fixture
def waiting(served: Models) -> Iterator[threading.Event]:
    """No model is leased while it is set."""
    served.must_wait.set()
    yield served.must_wait
    served.must_wait.clear()
    served.raises = None


def test_a_stream_says_that_it_waits_for_its_model(url: str, waiting: threading.Event) -> None:
    said = lines(begin(url))
    assert next(said) == PING
    waiting.clear()
    assert json.loads(next(line for line in said if line != PING).removeprefix(b"data: "))["choices"]


def test_a_stream_says_that_its_prompt_is_read() -> None:
    """An engine says nothing before it has read all of a prompt."""
    has_read = threading.Event()

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            has_read.wait(30)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            connection.sendall(head + b'data: {"choices": [{"index": 0, "delta": {"content": "read"}}]}\n\n')

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        address = Address(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "m", "a key")
        with gateway.serving(Models(Model(address, "m")), ping_s=0.05) as url:
            said = lines(begin(url))
            assert [next(said), next(said)] == [PING, PING]
            has_read.set()
            assert b"read" in next(line for line in said if line != PING)


def test_what_fails_after_that_is_an_event(url: str, served: Models, waiting: threading.Event) -> None:
    said = lines(begin(url))
    assert next(said) == PING
    served.raises = NothingFitsError("it needs 9 of 8 GB")
    waiting.clear()
    (told,) = (line for line in said if line != PING)
    assert json.loads(told.removeprefix(b"data: "))["error"]["message"] == "it needs 9 of 8 GB"
    assert served.leased == 0


@pytest.mark.parametrize("streams", [True, False])
def test_whoever_leaves_while_waiting_takes_no_model(
    url: str, served: Models, waiting: threading.Event, streams: bool
) -> None:
    with pytest.raises(requests.Timeout):
        requests.post(url + CHAT, json={"stream": streams, **HI}, timeout=0.05)
    time.sleep(0.05)
    waiting.clear()
    assert begin(url, stream=False).status_code == 200
    wait_until(lambda: served.leased == 0)


@pytest.mark.parametrize("streams", [True, False])
def test_whoever_leaves_makes_room(endless: Engine, streams: bool) -> None:
    """The engine has one sequence: who comes next is served when who came first has left."""
    models = Models(Model(endless.address, "endless"))
    with gateway.serving(models) as url:
        leaving = threading.Thread(target=_ask_and_leave, args=(url, streams))
        leaving.start()
        wait_until(lambda: models.leased == 1)
        assert begin(url, stream=False, max_tokens=2).json()["usage"]["completion_tokens"] == 2
        leaving.join()
        wait_until(lambda: models.leased == 0)


def _ask_and_leave(url: str, streams: bool) -> None:
    body = {"stream": streams, "max_tokens": 20_000, **HI}
    with suppress(requests.Timeout), requests.post(url + CHAT, json=body, stream=True, timeout=0.2) as answer:
        next(answer.iter_content(1))


def test_an_engine_that_is_killed(endless_file: Path) -> None:
    fit = fit_for(endless_file, context=30_000, threads=1, name="endless")
    with start(fit) as engine, gateway.serving(Models(Model(engine.address, "endless"))) as url:
        said = lines(begin(url, max_tokens=20_000))
        next(said)
        os.kill(engine.pid, signal.SIGKILL)
        told = json.loads(list(said)[-1].removeprefix(b"data: "))
        assert told["error"]["code"] == "engine_died"
        again = begin(url)
        assert (again.status_code, again.json()["error"]["code"]) == (502, "engine_died")


@dataclass
class Elsewhere:
    """A server of the user's that takes every request."""

    name: str = "lab"
    headers: Mapping[str, str] = field(default_factory=lambda: {"x-llmctl-route": "lab"})
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200

    def open(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        self.bodies.append(body)
        return self.status, {}, iter([b"data: {}\n\n", b"data: [DONE]\n\n"])


def test_what_does_not_fit_goes_elsewhere_unless_it_is_private(url: str, served: Models) -> None:
    served.other = elsewhere = Elsewhere()
    long = {"messages": [{"role": "user", "content": "long " * 900}]}
    answer = requests.post(url + CHAT, json=long, timeout=30)
    assert (answer.content, answer.headers["x-llmctl-route"]) == (b"data: {}\n\ndata: [DONE]\n\n", "lab")
    assert json.loads(elsewhere.bodies[0])["messages"] == long["messages"]
    kept = requests.post(url + CHAT, json=long, headers={"x-llmctl-private": "1"}, timeout=30)
    assert (kept.status_code, kept.json()["error"]["code"]) == (400, "context_length_exceeded")
    served.other = None
    assert len(elsewhere.bodies) == 1


@pytest.mark.parametrize(
    ("status", "shown", "code"), [(401, 502, "access"), (429, 429, "engine"), (500, 500, "engine")]
)
def test_what_the_other_server_refuses(url: str, served: Models, status: int, shown: int, code: str) -> None:
    """A key that it doesn't take is the gateway's: its client's token is good."""
    served.other = Elsewhere(status=status)
    long = {"messages": [{"role": "user", "content": "long " * 900}]}
    answer = requests.post(url + CHAT, json=long, timeout=30)
    served.other = None
    assert (answer.status_code, answer.json()["error"]["code"]) == (shown, code)
    assert answer.headers["x-llmctl-route"] == "lab"


def test_a_piece_does_not_wait_for_the_one_before_it_to_be_acknowledged() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Gateway(create_app(Models()), listening)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_bug_is_told_to_nobody_but_the_log(url: str, served: Models, caplog: pytest.LogCaptureFixture) -> None:
    """Where it is, by the request's own name; not what it says, which may be somebody's prompt."""
    served.sampling = {"temperature": object()}
    answer = begin(url, stream=False, messages=[{"role": "user", "content": "a secret"}])
    served.sampling = {}
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] in caplog.text and "answering.py" in caplog.text
    assert "secret" not in caplog.text + answer.text


def test_a_bug_in_reading_a_request(caplog: pytest.LogCaptureFixture) -> None:
    def read(body: bytes) -> ModelRequest:
        raise IndexError(body.decode())

    def behind() -> Behind:
        raise AssertionError("nothing was read")

    app = Starlette(routes=[Route(CHAT, ModelRoute(behind, read), methods=["POST"])])
    with guarded.listening(app) as port:
        answer = requests.post(f"http://127.0.0.1:{port}{CHAT}", data="a secret", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] in caplog.text and "IndexError" in caplog.text
    assert "secret" not in caplog.text + answer.text
