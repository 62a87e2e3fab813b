"""count_tokens where the engine has no path for it: servers that answer as an older llama-server and as vLLM do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from llmctl.types.endpoint import Address
from tests.fakes import gateway
from tests.fakes.gateway import Model, Models

Answer = tuple[int, Any]
Paths = Mapping[str, Callable[[Any], Answer]]
ASKED = {"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "hi there"}]}
UNREADABLE = "can't be read"


def templated(body: Any) -> Answer:
    return 200, {"prompt": " | ".join(message["content"] for message in body["messages"])}


def split(body: Any) -> Answer:
    assert body["add_special"] and body["parse_special"]
    return 200, {"tokens": list(range(len(body["content"].split())))}


def of_vllm(body: Any) -> Answer:
    words = " ".join(message["content"] for message in body["messages"]).split()
    return 200, {"count": len(words), "max_model_len": 99, "tokens": list(range(len(words)))}


def refused(body: Any) -> Answer:
    return 400, {"error": {"code": 400, "message": "the template says no", "type": "invalid_request_error"}}


def unknown(body: Any) -> Answer:
    return 404, {"error": {"message": "no such path"}}


@contextmanager
def engine(paths: Paths) -> Iterator[Address]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = paths.get(self.path, unknown)(body)
            page = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield Address(f"http://127.0.0.1:{server.server_port}/v1", "m", "a key")
        server.shutdown()


@pytest.mark.parametrize(
    ("paths", "status", "says"),
    [
        ({"/apply-template": templated, "/tokenize": split}, 200, {"input_tokens": 5}),
        ({"/tokenize": of_vllm}, 200, {"input_tokens": 4}),
        ({}, 502, "can't count tokens"),
        ({"/apply-template": refused, "/tokenize": split}, 400, "the template says no"),
        ({"/apply-template": lambda _: (200, ["a list"])}, 502, UNREADABLE),
        ({"/apply-template": templated, "/tokenize": lambda _: (200, {"tokens": 5})}, 502, UNREADABLE),
        ({"/apply-template": templated}, 502, "can't count tokens"),
    ],
    ids=["llama-server", "vLLM", "neither", "refused", "no prompt", "no tokens", "no way to split"],
)
def test_tokens_are_counted_as_the_engine_can(paths: Paths, status: int, says: Any) -> None:
    with engine(paths) as address, gateway.serving(Models(Model(address, "m"))) as url:
        answer = requests.post(f"{url}/v1/messages/count_tokens", json=ASKED, timeout=30)
    assert answer.status_code == status
    assert answer.json() == says if status == 200 else says in answer.json()["error"]["message"]
