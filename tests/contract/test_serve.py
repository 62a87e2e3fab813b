"""`llmctl serve` as programs and operators meet it: real gateways, real engines with tiny models, real signals."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from llmctl.workspace import engines, gateways
from tests.contract.test_page import check, documented, row
from tests.fakes.chat_server import ChatServer, status
from tests.fakes.command import document, llmctl, spawn
from tests.fakes.preloaded import Forked
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_scripted(tmp_path_factory.mktemp("serve") / "tiny.gguf", ["The", " answer"]))


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    gateways.stop(gateways.running(), within_s=0.1)
    engines.stop(None)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[Forked, dict[str, Any]]]:
    """A gateway in the foreground, and the document that it says when it listens."""
    with spawn("serve", *arguments, "--port", "0", "--json") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield process, json.loads(line)["data"]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def ask(address: str, model: str = "auto", **fields: Any) -> requests.Response:
    headers = fields.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    is_streamed = fields.get("stream", False)
    return requests.post(f"{address}/chat/completions", json=body, stream=is_streamed, headers=headers, timeout=60)


def text(response: requests.Response) -> str:
    made: str = response.json()["choices"][0]["message"]["content"]
    return made


def engine_pid() -> int:
    (engine,) = engines.staying()
    return engine.pid


def test_two_models_behind_one_address(model: str, endless_file: Path, home: Path) -> None:
    with serving(model, str(endless_file), "--users", "2", "--context", "1024") as (process, about):
        assert set(about) == row("serve")
        address = about["address"]
        assert [(row["name"], row["context"], row["users"]) for row in about["models"]] == [
            ("tiny", 1024, 2),
            ("endless-F32", 1024, 2),
        ]
        assert about["auto"]["code"] == "tiny" and about["all_together"]
        for name in ("auto", "auto:code", "tiny", "tiny:F32", model):
            assert text(ask(address, name)) == "The answer"
        assert ask(address, "endless-F32", max_tokens=2).json()["usage"]["completion_tokens"] == 2
        refused = ask(address, "gpt-4")
        assert refused.status_code == 404 and "only tiny, endless-F32, auto" in refused.json()["error"]["message"]
        assert requests.get(f"{address.removesuffix('/v1')}/health", timeout=10).json()["status"] == "ready"

        check(about["models"], documented("served"), "models", set())
        (listed,) = document(llmctl("ps", "--json"))["data"]["gateways"]
        check(listed, documented("gateway"), "gateways", set())
        assert (listed["address"], listed["pid"], listed["log"]) == (address, process.pid, None)
        assert [row["users"] for row in listed["models"]] == [2, 2]
        assert {row["model"] for row in document(llmctl("ps", "--json"))["data"]["engines"]} == {"tiny", "endless-F32"}

        access = document(llmctl("env", "--json"))["data"]
        assert (access["base_url"], access["model"], access["context"]) == (address, "tiny", 1024)
        told = llmctl("env", "endless-F32").stdout
        assert f"ANTHROPIC_BASE_URL={address.removesuffix('/v1')}\n" in told and "OPENAI_MODEL=endless-F32\n" in told

        shown = document(llmctl("launch", "claude", "--context", "1024", "--dry-run", "--json"))["data"]
        assert shown["environment"]["ANTHROPIC_BASE_URL"] == address.removesuffix("/v1")
        assert (shown["model"], shown["context"], shown["recommended"]) == ("tiny", 1024, True)
        codex = document(llmctl("launch", "codex", "endless-F32", "--context", "1024", "--dry-run", "--json"))["data"]
        assert f'base_url="{address}"' in " ".join(codex["argv"]) and codex["argv"][-1] == "endless-F32"

        taken = llmctl("serve", model, "--port", address.split(":")[2].removesuffix("/v1"))
        assert taken.returncode == 7 and f"(process {process.pid})" in taken.stderr

        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert within(10, lambda: not engines.staying()) and gateways.running() == []


def test_open_answers_finish_and_new_requests_are_refused_while_it_stops(endless_file: Path) -> None:
    with serving(str(endless_file), "--context", "4096") as (process, about):
        answer = ask(about["address"], stream=True, max_tokens=1500)
        events = answer.iter_lines()
        next(events)
        os.kill(process.pid, signal.SIGTERM)
        assert within(5, lambda: requests.get(about["address"].replace("/v1", "/health"), timeout=5).status_code == 503)
        refused = ask(about["address"])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert refused.headers["Retry-After"]
        lines = [line for line in events if line]
        assert lines[-1] == b"data: [DONE]" and b'"completion_tokens": 1500' in b"".join(lines[-3:])
        assert process.wait(timeout=30) == 0


def test_a_second_signal_ends_it_at_once(endless_file: Path) -> None:
    with serving(str(endless_file), "--context", "32768") as (process, about):
        answer = ask(about["address"], stream=True, max_tokens=30_000)
        events = answer.iter_lines()
        next(events)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert within(10, lambda: not engines.staying())


def test_the_engine_is_killed_while_it_answers(endless_file: Path) -> None:
    with serving(str(endless_file), "--context", "4096") as (_, about):
        answer = ask(about["address"], stream=True, max_tokens=4000)
        events = answer.iter_lines()
        next(events)
        killed = engine_pid()
        os.kill(killed, signal.SIGKILL)
        said = b"".join(events)
        assert b'"error"' in said and b"engine died" in said, said[-300:]
        assert ask(about["address"], max_tokens=2).json()["usage"]["completion_tokens"] == 2
        assert engine_pid() != killed


def test_the_gateway_is_killed_while_it_answers_and_leaves_no_engine(endless_file: Path) -> None:
    with serving(str(endless_file), "--context", "32768") as (process, about):
        answer = ask(about["address"], stream=True, max_tokens=30_000)
        events = answer.iter_lines()
        next(events)
        engine = psutil.Process(engine_pid())
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(requests.RequestException):
            list(events)
        engine.wait(timeout=10)
        assert gateways.running() == []
    port = about["address"].split(":")[2].removesuffix("/v1")
    with spawn("serve", str(endless_file), "--port", port, "--json") as again:
        assert again.stdout is not None and again.stdout.readline()
        assert ask(about["address"], max_tokens=2).status_code == 200


def test_it_goes_on_in_the_background(model: str) -> None:
    done = llmctl("serve", model, "--port", "0", "--detach", "--users", "1")
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert "planned for 1 user of 4,096 tokens" in done.stderr
    assert text(ask(address)) == "The answer"
    logged = llmctl("logs", "serve")
    assert "tiny is loaded, in" in logged.stdout and "answer" not in logged.stdout.replace("open answers", "")
    log = document(llmctl("logs", "tiny", "--json"))["data"]
    assert (set(log), log["kind"]) == (row("logs"), "engine")
    with serving(model) as (process, about):
        several = llmctl("stop", "serve")
        assert several.returncode == 2 and f"2 gateways run: {about['address']} and {address}" in several.stderr
        assert llmctl("stop", about["address"]).returncode == 0
        assert process.wait(timeout=20) == 0
    stopped = llmctl("stop", "serve")
    assert (stopped.returncode, stopped.stderr) == (0, f"Ended the gateway at {address}.\n")
    assert within(10, lambda: not engines.staying())
    assert llmctl("stop", "serve").returncode == 4


def test_what_fails_here_goes_on_to_a_server_where_the_policy_says_so(model: str, home: Path) -> None:
    long = [{"role": "user", "content": "secret " * 400}]
    message = {"role": "assistant", "content": "from afar"}
    reply = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with ChatServer(status(200, reply)) as server:
        url = server.address().url
        down = ("down", "http://127.0.0.1:1", "--model", "m", "--priority", "2")
        for added in (("office", url, "--model", "big", "--priority", "1"), down):
            assert llmctl("endpoint", "add", *added).returncode == 0
        with serving(model, "--context", "256", "--policy", "prefer-local") as (process, about):
            there = ask(about["address"], messages=long)
            assert text(there) == "from afar"
            headers = {name: there.headers[f"x-llmctl-{name}"] for name in ("route", "host", "model", "left-because")}
            assert headers == {
                "route": "office", "host": server.host, "model": "big", "left-because": "prompt-too-long"
            }  # fmt: skip
            (left,) = server.requests
            assert json.loads(left.body)["model"] == "big"
            assert int(there.headers["x-llmctl-bytes"]) == len(left.body)

            private = ask(about["address"], messages=long, headers={"x-llmctl-private": "1"})
            assert (private.status_code, private.json()["error"]["code"]) == (403, "policy")
            named = ask(about["address"], "tiny", messages=long)
            assert (named.status_code, named.json()["error"]["code"]) == (400, "context_length_exceeded")
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(timeout=30) == 0
            assert process.stderr is not None
            said = process.stderr.read().decode()
        (receipt,) = document(llmctl("receipts", "--json"))["data"]["receipts"]
        assert (receipt["endpoint"], receipt["bytes"], receipt["outcome"]) == ("office", len(left.body), "answered")
        with serving(model, "--context", "256") as (_, about):
            assert ask(about["address"], messages=long).status_code == 400
        assert len(server.requests) == 1
    assert "secret" not in said and "down failed" in said


def test_it_serves_where_nobody_can_find_it(model: str, home: Path) -> None:
    with spawn("serve", model, "--port", "0", XDG_RUNTIME_DIR="/proc/nothing") as process:
        assert process.stdout is not None and process.stderr is not None
        assert text(ask(process.stdout.readline().decode().strip())) == "The answer"
        assert gateways.running() == []
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(timeout=30) == 0
        assert b"ps, stop, env and launch don't find this gateway" in process.stderr.read()


def test_a_gateway_in_the_background_that_fails_says_why(tmp_path: Path, model: str) -> None:
    bad = tmp_path / "bad.gguf"
    content = bytearray(Path(model).read_bytes())
    bad.write_bytes(content[:-4096])
    done = llmctl("serve", str(bad), "--port", "0", "--detach")
    assert done.returncode in (6, 8) and "bad" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--users", "256", "--context", "1000000"), 3, "1,000,000"),
        (("--pin", "other"), 2, "--pin other: no model of that name is served, only tiny"),
        (("--preload", "other"), 4, "no model named 'other' is served"),
        (("--idle", "soon"), 2, "--idle is 'soon', it must be 30s, 5m, 1h, or -1 for ever"),
        (("--task", "dance"), 2, "there is no task named 'dance', only chat, code"),
        (("--host", "192.0.2.1"), 2, "192.0.2.1"),
    ],
)
def test_what_is_refused(model: str, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = llmctl("serve", model, "--port", "0", *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
