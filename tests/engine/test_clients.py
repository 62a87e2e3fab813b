"""Several clients of one engine at once, over HTTP: the real llama.cpp with tiny models."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from llmctl.engine.llama_cpp.batching import WAITING_LIMIT
from llmctl.engine.llama_cpp.slots import LEAST_FRESH
from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write
from tests.fakes.scripted_model import write_scripted

TINY = model_shape("tiny")
TOPICS = ("snow", "tea", "ships")
ENDLESS = ("again", " and")


@dataclass(frozen=True)
class Said:
    text: str
    usage: Mapping[str, Any]
    timings: Mapping[str, Any]

    @property
    def cached_tokens(self) -> int:
        return int(self.usage["prompt_tokens_details"]["cached_tokens"])


def begin(address: Address, content: str, **fields: Any) -> requests.Response:
    """A request whose answer has begun, or was refused."""
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "stream": True, **fields}
    headers = {"Authorization": f"Bearer {address.token}"}
    return requests.post(f"{address.url}/chat/completions", json=body, headers=headers, stream=True, timeout=60)


def said(response: requests.Response) -> Said:
    text, last = "", {}
    with closing(response):
        assert response.status_code == 200, response.text
        for line in response.iter_lines():
            if line.startswith(b"data: {"):
                last = json.loads(line.removeprefix(b"data: "))
                text += "".join(choice["delta"].get("content", "") for choice in last["choices"])
    return Said(text, last["usage"], last["timings"])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Of a model of random weights: what it says depends on all that it reads."""
    file = tmp_path_factory.mktemp("model") / "model.gguf"
    write(file, llama_metadata(TINY), llama_tensors(TINY), fill=Fill.RANDOM)
    with start(fit_for(file, context=2048, sequences=4)) as engine:
        yield engine.address


def answers(address: Address, contents: Sequence[str], threads: int) -> list[Said]:
    with ThreadPoolExecutor(threads) as pool:
        asked = {"max_tokens": 8, "frequency_penalty": 2.0}  # without it, the model says the same word again and again
        return list(pool.map(lambda content: said(begin(address, content, **asked)), contents))


def test_answers_together_are_those_alone(address: Address) -> None:
    """Rounding may differ by the size of a batch, which turns a word where two are about as likely: at most one."""
    contents = [f"Tell me something about {topic}." for topic in TOPICS]
    alone = answers(address, contents, threads=1)
    assert [one.text for one in answers(address, contents, threads=1)] == [one.text for one in alone]
    together = answers(address, contents, threads=3)
    assert sum(one.text != other.text for one, other in zip(together, alone, strict=True)) <= 1
    assert len({one.text for one in together}) == len(TOPICS)
    assert [one.usage["completion_tokens"] for one in together] == [8] * 3


def test_a_seed_gives_the_same_answer_beside_others(address: Address) -> None:
    asked = {"max_tokens": 16, "temperature": 1.5, "seed": 7}
    alone = said(begin(address, "Tell me a story.", **asked))
    with (
        closing(begin(address, "Tell me a long story.", max_tokens=300)),
        closing(begin(address, "Go!", max_tokens=300)),
    ):
        beside = said(begin(address, "Tell me a story.", **asked))
    assert (beside.text, beside.cached_tokens) == (alone.text, 0)


def test_speed_is_told_of_an_answer_that_had_the_machine_for_itself(address: Address) -> None:
    while "prompt_ms" not in (alone := answers(address, ["hello"], threads=1)[0]).timings:
        pass  # the answer that another test has left is still being computed
    assert alone.timings["prompt_ms"] > 0 and alone.timings["predicted_ms"] > 0
    assert alone.timings["predicted_n"] == 7
    with closing(begin(address, "Tell me a long story.", max_tokens=500)):
        assert "predicted_ms" not in answers(address, ["hello"], threads=1)[0].timings


def test_what_was_read_is_not_read_again(address: Address) -> None:
    content = "A list: " + " ".join(map(str, range(200))) + ". What comes next?"
    first, again = (said(begin(address, content, max_tokens=8)) for _ in range(2))
    assert first.cached_tokens < 100  # the beginning that the template writes
    assert again.cached_tokens == again.usage["prompt_tokens"] - LEAST_FRESH
    assert again.timings["prompt_n"] == LEAST_FRESH
    assert again.text == first.text
    assert again.usage["completion_tokens"] == first.usage["completion_tokens"]


def test_whoever_leaves_makes_room(tmp_path: Path) -> None:
    """One sequence: those that wait are served when the one that is being served, and one that waits, have left."""
    file = write_scripted(tmp_path / "model.gguf", ENDLESS, repeats=True, context=200_000)
    with start(fit_for(file, context=200_000)) as engine, ThreadPoolExecutor(1) as pool:
        served = begin(engine.address, "hi", max_tokens=190_000)
        text = served.iter_content(1)  # to let go of it would be to leave
        next(text)
        _ask_and_leave(engine.address)
        waiting = pool.submit(lambda: said(begin(engine.address, "hi", max_tokens=2)))
        time.sleep(0.2)
        assert not waiting.done()
        served.close()
        assert waiting.result(timeout=30).text == "again and"


def _ask_and_leave(address: Address) -> None:
    body = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 190000}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {address.token}\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(address.url).port or 0), timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.2)


def test_more_than_may_wait_are_told_when_to_come_again(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "model.gguf", ENDLESS, repeats=True, context=200_000)
    with start(fit_for(file, context=200_000)) as engine, ThreadPoolExecutor(WAITING_LIMIT + 4) as pool:
        served = begin(engine.address, "hi", max_tokens=190_000)
        everybody = [pool.submit(begin, engine.address, "hi", max_tokens=2) for _ in range(WAITING_LIMIT + 4)]
        deadline = time.monotonic() + 30
        while sum(one.done() for one in everybody) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        refused = [one.result() for one in everybody if one.done()]
        assert [response.status_code for response in refused] == [429] * 4
        assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
        assert f"{WAITING_LIMIT} requests are waiting" in refused[0].json()["error"]["message"]
        served.close()
        answered = [said(one.result(timeout=60)) for one in everybody if one.result(timeout=60).status_code == 200]
        assert [one.text for one in answered] == ["again and"] * WAITING_LIMIT
