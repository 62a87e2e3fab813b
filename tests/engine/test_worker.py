"""What a client hears of an answer that can't be given: the worker's own handler with a model that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import requests

from llmctl.engine.llama_cpp.batching import BusyError
from llmctl.engine.llama_cpp.context import DecodeError
from llmctl.engine.llama_cpp.model import LoadedModel
from llmctl.engine.llama_cpp.worker import Server

CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]}


class Failing:
    """Says ``chunks``, then raises."""

    def __init__(self, error: Exception, chunks: int) -> None:
        self._error, self._chunks = error, chunks

    def stream(self, request: object, is_gone: Callable[[], bool]) -> Generator[dict[str, Any], None, None]:
        for _ in range(self._chunks):
            yield CHUNK
        raise self._error


@contextmanager
def served(error: Exception, chunks: int) -> Iterator[str]:
    with Server(cast(LoadedModel, Failing(error, chunks)), "token") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/chat/completions"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str) -> requests.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    return requests.post(url, json=body, headers={"Authorization": "Bearer token"}, timeout=10)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(DecodeError("llama_decode returned -3"), 500, "decoding"), (BusyError(32, 7), 429, "busy")],
)
def test_before_the_first_token_it_is_a_status(error: Exception, status: int, code: str) -> None:
    with served(error, chunks=0) as url:
        answer = ask(url)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert str(error) in answer.json()["error"]["message"]
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_behind_it_it_is_an_event() -> None:
    with served(DecodeError("llama_decode returned -3"), chunks=1) as url:
        answer = ask(url)
    assert answer.status_code == 200
    assert '"Hello"' in answer.text
    assert '"code": "decoding"' in answer.text and "[DONE]" not in answer.text
