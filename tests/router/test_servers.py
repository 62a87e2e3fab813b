"""Several servers: which of them answers, what each was sent, and how a broken answer goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, cast

import pytest
from msgspec.structs import replace

from llmctl.engine.llama_cpp.start import start
from llmctl.engine.pool import Pool
from llmctl.engine.worker_process import Engine
from llmctl.errors import AccessError, EngineError, LlmctlError, NetworkError
from llmctl.router.answer import answer
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.answer import Answer
from llmctl.types.endpoint import Endpoint, KeyFile, KeyVariable, LeaveReason, Limits, Local, Price, Remote
from llmctl.types.event import Event
from llmctl.types.listener import SilentListener
from llmctl.types.receipt import Outcome
from llmctl.types.request import JsonObject, Request, Sampling, Tool
from llmctl.workspace import receipts
from tests.fakes.chat_server import DONE, ChatServer, Reply, broken_off, data, drop, event, status, stream
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

HELLO = stream(event("Hello"), event(finish="stop"), DONE)
HALF = broken_off(event("One, "), event("two,"))
REST = stream(event(" three."), event(finish="stop"), DONE)
PROMPT = Request.of("count", Sampling(max_tokens=10))


class Hearing(SilentListener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        self.said.append(f"{endpoint.name}: {reason}")

    def staying(self, reason: str) -> None:
        self.said.append(f"here: {reason}")


@dataclass
class Asked:
    """What came of asking: an answer, or an error and what is there of an answer."""

    answer: Answer | None
    error: LlmctlError | None
    so_far: PartialAnswer
    said: list[str] = field(default_factory=list)


def ask(route: Remote | Local, request: Request = PROMPT, lease: Any = None) -> Asked:
    listener, so_far = Hearing(), PartialAnswer()
    try:
        made = answer(route, request, listener=listener, lease=lease or Pool().lease, so_far=so_far)
    except LlmctlError as error:
        return Asked(None, error, so_far, listener.said)
    return Asked(made, None, so_far, listener.said)


def to(*endpoints: Endpoint) -> Remote:
    return Remote(endpoints[0], LeaveReason.REMOTE_ONLY, "the policy", others=endpoints[1:])


def at(name: str, server: ChatServer, **more: Any) -> Endpoint:
    return Endpoint(name, server.url, "m", **more)


@pytest.fixture(scope="module")
def refused() -> Iterator[Endpoint]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Endpoint("office", f"http://127.0.0.1:{bound.getsockname()[1]}/v1", "m")


@pytest.mark.parametrize(
    "reply",
    [
        *(status(code) for code in (400, 401, 403, 413, 422, 500, 502, 503)),
        status(404, {"error": {"message": "the model m does not exist"}}),
        status(429, **{"Retry-After": "9999"}),
        status(302, Location="http://127.0.0.1:1/"),
        drop,
        stream(data({"error": {"message": "no"}})),
        stream(event(finish="error")),
        broken_off(event("")),
        stream(b"<html>", content_type="text/html"),
    ],
)
def test_any_failure_before_the_first_word_leads_to_the_next(reply: Reply) -> None:
    with ChatServer(reply) as office, ChatServer(HELLO) as lab:
        asked = ask(to(at("office", office), at("lab", lab)))
    assert asked.answer is not None, asked.error
    assert (asked.answer.text, asked.answer.route.endpoint) == ("Hello", "lab")
    assert len(office.requests) == len(lab.requests) == 1, "no second try where another can answer"
    assert [line.partition(":")[0] for line in asked.said] == ["office", "lab"]
    assert asked.said[1].startswith("lab: office failed: ")
    left = asked.answer.left_machine
    assert left is not None
    assert (left.host, left.bytes, left.total_bytes) == (lab.host, len(lab.requests[0].body), 2 * left.bytes)
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.FAILED, Outcome.ANSWERED]


def test_what_was_never_sent_is_not_counted(refused: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE_SET", raising=False)
    with ChatServer(HELLO) as lab:
        keyless = replace(at("keyless", lab), key=KeyVariable("NOWHERE_SET"))
        small = at("small", lab, limits=Limits(context=1))
        asked = ask(to(keyless, refused, small, at("lab", lab)), Request.of("two words"))
    assert asked.answer is not None and asked.answer.left_machine is not None
    assert asked.answer.left_machine.earlier == ()
    assert [line.partition(":")[0] for line in asked.said] == ["office", "lab"]
    assert "should be in NOWHERE_SET" in asked.said[0] and "context of small is 1" in asked.said[1]
    assert len(receipts.read().receipts) == 1


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.usefixtures("no_waits")
def test_where_all_fail_the_last_error_is_raised(refused: Endpoint) -> None:
    with ChatServer(status(401)) as lab:
        assert type(ask(to(refused, at("lab", lab))).error) is AccessError
        assert type(ask(to(at("lab", lab), refused)).error).__mro__[1] is NetworkError


@pytest.mark.usefixtures("no_waits")
def test_the_last_is_tried_again() -> None:
    with ChatServer(drop) as office, ChatServer(status(503), HELLO) as lab:
        asked = ask(to(at("office", office), at("lab", lab)))
    assert asked.answer is not None and len(lab.requests) == 2


# After the first word


def test_a_broken_answer_goes_on_where_the_user_lets_it() -> None:
    with ChatServer(HALF) as office, ChatServer(HELLO) as lab, ChatServer(REST) as desk:
        asked = ask(to(at("office", office), at("lab", lab), at("desk", desk, continues=True, price=Price(1, 1))))
    assert asked.answer is not None, asked.error
    assert asked.answer.text == "One, two, three."
    assert asked.answer.route.endpoint == "desk" and lab.requests == []
    assert asked.answer.usage.completion_tokens is None and asked.answer.cost is None
    assert asked.said[1].startswith(f"desk: office failed: {office.host} broke off in the middle")
    sent = json.loads(desk.requests[0].body)
    assert sent["messages"][-1] == {"role": "assistant", "content": "One, two,"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"], sent["max_tokens"]) == (True, False, 8)
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.PARTIAL, Outcome.ANSWERED]


def test_a_server_that_knows_no_such_fields_is_asked_without_them() -> None:
    picky = [status(400, {"error": {"message": f"Unrecognized request argument supplied: {name}"}}) for name in NAMES]
    with ChatServer(HALF) as office, ChatServer(*picky, REST) as desk:
        asked = ask(to(at("office", office), at("desk", desk, continues=True)))
    assert asked.answer is not None and asked.answer.text == "One, two, three."
    assert not set(NAMES) & set(json.loads(desk.requests[-1].body))


NAMES = ("continue_final_message", "add_generation_prompt")
THOUGHTS = broken_off(event(reasoning_content="hm"))
ADD = Tool("add", "Adds two numbers.", {"type": "object"})
TOOL = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "add", "arguments": "{"}}]}


@pytest.mark.parametrize(
    ("reply", "request_", "continues"),
    [
        (HALF, PROMPT, False),
        (HALF, replace(PROMPT, response_format=JsonObject()), True),
        (THOUGHTS, PROMPT, True),
        (broken_off(event("I add"), event(**TOOL)), replace(PROMPT, tools=(ADD,)), True),
    ],
    ids=["not-allowed", "a-form-to-keep", "thoughts-alone", "a-call"],
)
def test_what_nobody_goes_on_with_is_partial(reply: Reply, request_: Request, continues: bool) -> None:
    with ChatServer(reply) as office, ChatServer(REST) as desk:
        asked = ask(to(at("office", office), at("desk", desk, continues=continues)), request_)
    assert isinstance(asked.error, NetworkError | EngineError)
    assert desk.connections == 0
    assert "".join((*asked.so_far.text, *asked.so_far.reasoning))


class DeadWorker:
    """The process of an engine that died in the middle of an answer."""

    def close(self) -> None: ...

    def death(self) -> LlmctlError:
        from llmctl.errors import EngineDiedError

        return EngineDiedError("the engine died: signal 9")


@pytest.mark.parametrize(("continues", "barred"), [(True, False), (False, False), (True, True)])
def test_the_engine_here_dies_in_the_middle(continues: bool, barred: bool) -> None:
    with ChatServer(HALF) as engine, ChatServer(REST) as desk:
        lent = Engine(cast(Any, DeadWorker()), engine.address(), 0.1, True, "none")
        bars = {LeaveReason.ENGINE_FAILED: "-m x names what is to answer"} if barred else {}
        route = Local(fit_for(None), "it fits", at("desk", desk, continues=continues), bars)
        asked = ask(route, lease=lambda _: lent)
    if continues and not barred:
        assert asked.answer is not None, asked.error
        assert asked.answer.text == "One, two, three."
        assert asked.answer.route.left_because is LeaveReason.ENGINE_FAILED
    else:
        assert asked.error is not None and asked.error.exit_code == 8
        assert ("nothing was sent to desk" in asked.error.message) is barred
        assert "".join(asked.so_far.text) == "One, two," and desk.connections == 0


class Killing(Hearing):
    """Kills an engine when the first part of its answer has come."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._pid: int | None = engine.pid

    def event(self, event: Event) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._pid = None


def at_engine(name: str, engine: Engine, folder: Path) -> Endpoint:
    key = folder / name
    key.write_text(engine.address.token or "")
    key.chmod(0o600)
    return Endpoint(name, engine.address.url, "m", key=KeyFile(str(key)), continues=True)


def test_a_worker_goes_on_with_what_another_had_begun(tmp_path: Path) -> None:
    letters = ascii_letters + digits  # tokens that are found again in a prompt
    file = write_scripted(tmp_path / "letters.gguf", letters, repeats=True)
    fit, counted = fit_for(file, context=4096, threads=1), Sampling(max_tokens=2000, temperature=0.0)
    with start(fit) as office, start(fit) as lab:
        listener, so_far = Killing(office), PartialAnswer()
        made = answer(
            to(at_engine("office", office, tmp_path), at_engine("lab", lab, tmp_path)),
            Request.of("count", counted),
            listener=listener,
            lease=Pool().lease,
            so_far=so_far,
        )
    assert made.text == (letters * len(made.text))[: len(made.text)], "as if one had written it all"
    assert made.route.endpoint == "lab"
    assert [receipt.outcome for receipt in receipts.read().receipts] == [Outcome.PARTIAL, Outcome.ANSWERED]


def test_what_it_costs() -> None:
    used = data({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 500}})
    with ChatServer(stream(event("Hi", finish="stop"), used, DONE)) as server:
        asked = ask(to(at("office", server, price=Price(3.0, 12.0))))
    assert asked.answer is not None and asked.answer.cost == pytest.approx(0.009)
    (receipt,) = receipts.read().receipts
    assert receipt.cost == asked.answer.cost
    assert receipts.verify().error is None
