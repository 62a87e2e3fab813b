"""The gateway's description of itself holds against the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import requests
from starlette.routing import Route

from llmctl.server.app import create_app
from llmctl.server.openapi import description
from llmctl.types.endpoint import Address
from tests.fakes.gateway import Model, Models

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def described(url: str) -> Any:
    answer = requests.get(f"{url}/openapi.json", timeout=30)
    assert answer.content == description()
    return answer.json()


def operations(described: Any) -> Iterator[tuple[str, str]]:
    return ((path, method.upper()) for path, item in described["paths"].items() for method in item)


def test_every_route_is_described(described: Any, address: Address) -> None:
    app = create_app(Models(Model(address, "scripted")))
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
        ("/v1/chat/completions", {"messages": HI, "stop": ["x"], "temperature": 0, "stream": True}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
        ("/v1/responses", {"input": HI, "reasoning": {"effort": "low"}}),
        ("/v1/messages", {"messages": HI, "max_tokens": 5, "system": [{"type": "text", "text": "Be brief."}]}),
        ("/v1/messages/count_tokens", {"messages": HI}),
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
