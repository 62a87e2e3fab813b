"""The receipt of what executed, and what a local request carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.engine import history
from llmctl.engine.pool import Pool
from llmctl.engine.worker_process import Engine
from llmctl.errors import (
    ContextError,
    DecodingError,
    EngineDiedError,
    EngineError,
    NetworkError,
    PolicyError,
    UsageError,
)
from llmctl.router.answer import answer, handed_over, local_sampling
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.answer import Answer
from llmctl.types.endpoint import LOCAL_FAILURES, Endpoint, LeaveReason, Limits, Local, Remote
from llmctl.types.listener import SilentListener
from llmctl.types.request import Request, Sampling
from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, data, event, silence, status, stream
from tests.fakes.fits import fit_for


def test_the_memory_of_somebody_elses_machine_is_not_ours() -> None:
    told = data({"choices": [], "memory": {"anonymous_bytes": 5, "device_bytes": 6}})
    with ChatServer(stream(event("Hi", finish="stop"), told, DONE)) as server:
        route = Remote(Endpoint("office", server.url, "m"), LeaveReason.PINNED, "you asked for it", None)
        made = answer(
            route,
            Request.of("hi"),
            listener=SilentListener(),
            lease=Pool().lease,
            so_far=PartialAnswer(),
        )
    assert made.text == "Hi"
    assert made.measured is None
    assert not (paths.data_dir() / "history.jsonl").exists(), "what ran elsewhere is no run of this machine"
    assert made.route.left_because is LeaveReason.PINNED


FIT = fit_for(Path("/models/here.gguf"))
OFFICE = Endpoint("office", "https://office/v1", "m")
DIED = EngineDiedError("the engine died: signal 9", hint="llmctl doctor")


def test_a_failure_before_the_first_token_goes_to_the_fallback() -> None:
    made = handed_over(Local(FIT, "it fits", OFFICE), DIED, PartialAnswer(), Request.of("hi"))
    assert made == Remote(OFFICE, LeaveReason.ENGINE_FAILED, DIED.message)


@pytest.mark.parametrize(
    ("route", "error", "so_far", "says"),
    [
        (Local(FIT, "it fits"), DIED, PartialAnswer(), DIED.message),
        (Local(FIT, "it fits", OFFICE), DIED, PartialAnswer(first_token=1.0), DIED.message),
        (Local(FIT, "it fits", OFFICE), EngineError("refused"), PartialAnswer(load_s=1.0), "refused"),
        (
            Local(FIT, "it fits", OFFICE, {LeaveReason.ENGINE_FAILED: "-m x names what is to answer"}),
            DIED,
            PartialAnswer(),
            f"{DIED.message}; -m x names what is to answer, so nothing was sent to office",
        ),
    ],
    ids=["no-endpoint", "after-the-first-token", "a-refusal", "barred"],
)
def test_a_failure_that_goes_nowhere(route: Local, error: EngineError, so_far: PartialAnswer, says: str) -> None:
    with pytest.raises(type(error)) as caught:
        handed_over(route, error, so_far, Request.of("hi"))
    assert caught.value.message == says


PLAIN = {"enable_thinking": False}
ASKS_TO_THINK = {"chat_template_kwargs": {"enable_thinking": True}}


@pytest.mark.parametrize(
    ("published", "asked", "carried"),
    [
        ({"top_k": 20}, None, {"top_k": 20, "chat_template_kwargs": PLAIN}),
        ({"top_k": 20}, {"stop": ["x"]}, {"top_k": 20, "stop": ["x"], "chat_template_kwargs": PLAIN}),
        ({"top_k": 20}, {"top_k": 1}, {"top_k": 1, "chat_template_kwargs": PLAIN}),
        (None, {"chat_template_kwargs": {"tone": "dry"}}, {"chat_template_kwargs": {**PLAIN, "tone": "dry"}}),
        (None, ASKS_TO_THINK, ASKS_TO_THINK),
    ],
)
def test_what_the_caller_asks_for_is_kept(
    published: Mapping[str, Any] | None, asked: Mapping[str, Any] | None, carried: Mapping[str, Any]
) -> None:
    candidate = FIT.candidate
    fit = replace(FIT, candidate=replace(candidate, model=replace(candidate.model, sampling=published)))
    assert local_sampling(fit, Sampling(seed=1, extra=asked)) == Sampling(seed=1, extra=carried)
    plain = local_sampling(fit, Sampling(seed=1, extra=asked), speculates=False)
    assert plain.extra == {**carried, "speculate": False}


@pytest.mark.parametrize(
    "route",
    [Remote(OFFICE, LeaveReason.PINNED, "you asked for it"), Remote(OFFICE, LeaveReason.PREFER_REMOTE, "the policy")],
)
def test_a_private_prompt_goes_nowhere_whatever_route_is_given(route: Remote) -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        there = replace(route, endpoint=replace(OFFICE, url=server.url))
        with pytest.raises(PolicyError, match="the prompt is private: nothing may go to office"):
            answer(
                there,
                replace(Request.of("hi"), private=True),
                listener=SilentListener(),
                lease=Pool().lease,
                so_far=PartialAnswer(),
            )
    assert server.connections == 0


def remote(endpoint: Endpoint, prompt: str = "hi") -> Answer:
    route = Remote(endpoint, LeaveReason.PINNED, "you asked for it")
    so_far = PartialAnswer()
    return answer(route, Request.of(prompt), listener=SilentListener(), lease=Pool().lease, so_far=so_far)


def test_a_prompt_that_no_context_there_takes_does_not_leave() -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        small = Endpoint("office", server.url, "m", limits=Limits(context=100))
        with pytest.raises(ContextError, match="at least 200 tokens, the context of office is 100"):
            remote(small, "word " * 200)
        assert server.connections == 0
        assert remote(small, "word " * 20).text == "Hi"


@pytest.mark.parametrize("limits", [Limits(first_token_s=0.3), Limits(first_token_s=60, between_s=0.3)])
def test_the_endpoints_own_patience(limits: Limits) -> None:
    def stalls(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        if limits.between_s:
            handler.chunk(event("Hi"))
        silence(handler)

    with ChatServer(stalls) as server:
        with pytest.raises(NetworkError):
            remote(Endpoint("office", server.url, "m", limits=limits))
        assert server.hung_up.wait(5)
    assert len(server.requests) == 1


# The engine, played by a server: what it answers when its first decode fails


class NoWorker:
    """What an engine has for a process, for one that has none."""

    def close(self) -> None: ...


FAILED = {"error": {"message": "decoding failed: llama_decode returned 1", "code": "decoding"}}


@pytest.mark.parametrize(
    "reply",
    [status(400, FAILED), status(500, FAILED), stream(event(""), data(FAILED))],
    ids=["a-refusal", "an-error", "in-the-stream"],
)
def test_a_first_decode_that_fails_is_a_failure_of_the_engine(reply: Reply) -> None:
    with ChatServer(reply) as engine, ChatServer(stream(event("Hi", finish="stop"), DONE)) as office:
        made = ask(engine, Local(FIT, "it fits", Endpoint("office", office.url, "m")))
    assert made.route.left_because is LeaveReason.ENGINE_FAILED
    assert "decoding failed: llama_decode returned 1" in made.route.reason
    assert len(office.requests) == 1
    named = dict.fromkeys(LOCAL_FAILURES, "-m x names what is to answer")
    with (
        ChatServer(reply) as engine,
        ChatServer(stream(event("Hi", finish="stop"), DONE)) as office,
        pytest.raises(DecodingError, match="so nothing was sent to office"),
    ):
        ask(engine, Local(FIT, "it fits", Endpoint("office", office.url, "m"), named))
    assert office.connections == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("response_format.json_schema.schema.multipleOf is not possible here", "llmctl run --json-object …"),
        ("tools[0] must be an object", "llmctl run --help"),
    ],
)
def test_what_the_engine_cannot_serve_is_the_users_mistake_and_stays_here(words: str, hint: str) -> None:
    reply = status(400, {"error": {"message": words, "code": "invalid_request"}})
    with (
        ChatServer(reply) as engine,
        ChatServer(stream(event("Hi", finish="stop"), DONE)) as office,
        pytest.raises(UsageError) as caught,
    ):
        ask(engine, Local(FIT, "it fits", Endpoint("office", office.url, "m")))
    assert caught.value.message == words
    assert (caught.value.hint or "").startswith(hint)
    assert office.connections == 0


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_was_written_beside_other_answers_teaches_no_speed(is_shared: bool) -> None:
    last: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}}
    last["timings"] = {"prompt_n": 9, "predicted_n": 19}
    if not is_shared:
        last["timings"] |= {"prompt_ms": 10.0, "predicted_ms": 50.0}
    reply = stream(event("Hi"), event(" there", finish="stop"), data(last), DONE)
    with ChatServer(reply) as engine:
        made = ask(engine, Local(FIT, "it fits"), record=True)
    assert made.timings.decode_tok_s, "what a person has seen is told all the same"
    (run,) = history.read()
    assert (run.measured.decode_tok_s is None) is is_shared


def ask(engine: ChatServer, route: Local, *, record: bool = False) -> Answer:
    lent = Engine(cast(Any, NoWorker()), engine.address(), 0.1, True, "none")
    return answer(
        route,
        Request.of("hi"),
        listener=SilentListener(),
        lease=lambda _: lent,
        so_far=PartialAnswer(),
        record=record,
    )
