"""OpenAI's shape through the gateway, and what it says of itself: a real engine with a scripted model, real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import requests
from starlette.routing import Route

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.server.app import create_app
from llmctl.server.metrics import Metrics
from llmctl.server.openapi import description
from llmctl.server.privacy import Privacy
from tests.fakes.gateway import Health, Models

MESSAGE = {"role": "user", "content": "hi"}
HI = {"messages": [MESSAGE]}
ANSWER = "The answer is 42."


def post(url: str, path: str, **fields: Any) -> requests.Response:
    return requests.post(url + path, json=fields, timeout=30)


def test_an_answer(url: str, served: Models) -> None:
    answer = post(url, "/v1/chat/completions", model="scripted", **HI)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    deadline = time.monotonic() + 10
    while served.leased and time.monotonic() < deadline:  # it is given back when the answer is out
        time.sleep(0.01)
    assert served.leased == 0


def test_a_stream_is_the_engines(url: str) -> None:
    answer = post(url, "/v1/chat/completions", model="auto:code", stream=True, **HI)
    assert answer.headers["content-type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]) == ANSWER
    assert {chunk["model"] for chunk in chunks} == {"scripted"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "code", "named"),
    [
        ("/v1/chat/completions", {"model": "other", **HI}, 404, "not_found", "other"),
        ("/v1/chat/completions", {"model": 5, **HI}, 400, "invalid_request", "model"),
        ("/v1/chat/completions", {"stream": "yes", **HI}, 400, "invalid_request", "stream"),
        ("/v1/chat/completions", {"prompt_cache_bytes": 5, **HI}, 400, "invalid_request", "prompt_cache_bytes"),
        ("/v1/chat/completions", {"wings": 2, **HI}, 400, "invalid_request", "wings"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi" * 900}]},
            400,
            "context_length_exceeded",
            "512",
        ),
        ("/v1/embeddings", {"input": "hi"}, 400, "invalid_request", "input"),
        ("/v1/other", {}, 404, "not_found", "/v1/other"),
        ("/v1/models", {}, 405, "method_not_allowed", "POST"),
    ],
)
def test_what_cannot_be_done_is_named(
    url: str, served: Models, path: str, fields: dict[str, Any], status: int, code: str, named: str
) -> None:
    answer = post(url, path, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert named in error["message"]
    assert served.leased == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'"hi"', b"[" * 100_000, b'{"chat_template_kwargs": {"a": "\xff"}}']
)
def test_a_body_that_is_no_object(url: str, served: Models, body: bytes) -> None:
    served.sampling = {"chat_template_kwargs": {"enable_thinking": False}}
    answer = requests.post(f"{url}/v1/chat/completions", data=body, timeout=30)
    served.sampling = {}
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_tokens_and_back(url: str) -> None:
    tokens = post(url, "/tokenize", content="The answer", model="scripted").json()["tokens"]
    assert post(url, "/detokenize", tokens=tokens).json()["content"] == "The answer"


def test_models(url: str) -> None:
    listed = requests.get(f"{url}/v1/models", timeout=30).json()
    assert [model["id"] for model in listed["data"]] == ["scripted"]
    assert requests.get(f"{url}/v1/models/scripted", timeout=30).json() == listed["data"][0]
    assert requests.get(f"{url}/v1/models/other", timeout=30).status_code == 404
    page = requests.get(f"{url}/v1/models", headers={"anthropic-version": "2023-06-01"}, timeout=30).json()
    assert (page["first_id"], page["has_more"], page["data"][0]["type"]) == ("scripted", False, "model")


@pytest.mark.parametrize(
    ("health", "status", "word"),
    [
        (Health(), 200, "ready"),
        (Health(ready=False, loading=("scripted",)), 503, "loading"),
        (Health(draining=True), 503, "draining"),
    ],
)
def test_health(url: str, served: Models, health: Health, status: int, word: str) -> None:
    served.health_now = health
    answer = requests.get(f"{url}/health", timeout=30)
    assert (answer.status_code, answer.json()["status"]) == (status, word)


@pytest.fixture(scope="module")
def described(url: str) -> Any:
    answer = requests.get(f"{url}/openapi.json", timeout=30)
    assert answer.content == description()
    return answer.json()


def operations(described: Any) -> Iterator[tuple[str, str]]:
    return ((path, method.upper()) for path, item in described["paths"].items() for method in item)


def test_every_route_is_described(described: Any, served: Models) -> None:
    given_up = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    app = create_app(served, routes=[Metrics().route(), Privacy(served, given_up).route()])  # as guards add them
    routes = {
        (route.path.replace(":path", ""), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == set(operations(described))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [MESSAGE], "stop": ["x"], "temperature": 0, "stream": True}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
        ("/v1/responses", {"input": [MESSAGE], "reasoning": {"effort": "low"}}),
        ("/v1/messages", {"messages": [MESSAGE], "max_tokens": 5, "system": [{"type": "text", "text": "Be brief."}]}),
        ("/v1/messages/count_tokens", {"messages": [MESSAGE]}),
        ("/tokenize", {"content": "hi", "with_pieces": True}),
        ("/detokenize", {"tokens": [5]}),
    ],
)
def test_what_is_described_is_taken(url: str, described: Any, path: str, fields: Any) -> None:
    schema = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.validate(fields, {**schema, "components": described["components"]})
    answer = requests.post(url + path, json=fields, timeout=30)
    kinds = described["paths"][path]["post"]["responses"]["200"]["content"]
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] in kinds
