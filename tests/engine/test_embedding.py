"""An engine whose file is an embedding model gives vectors, and answers no chat."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from llmctl.engine.llama_cpp.start import start
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import WIDTH, write_scripted

POOLINGS = {"mean": 1, "last": 3}


class Client:
    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    def post(self, path: str, **fields: Any) -> requests.Response:
        return requests.post(f"{self._url}/{path}", json=fields, headers=self._headers, timeout=60)

    def vectors(self, *texts: str) -> np.ndarray[Any, Any]:
        data = self.post("embeddings", input=texts).json()["data"]
        assert [row["index"] for row in data] == list(range(len(texts)))
        return np.array([row["embedding"] for row in data])

    def refused(self, path: str, **fields: Any) -> str:
        answer = self.post(path, **fields)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"]["message"])


def serving(file: Path) -> Iterator[Client]:
    with start(fit_for(file, threads=1)) as engine:
        yield Client(engine.address.url, engine.address.token)


@pytest.fixture(scope="module", params=POOLINGS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    pooling = {"llama.pooling_type": POOLINGS[request.param]}
    yield from serving(write_scripted(tmp_path_factory.mktemp("model") / "model.gguf", ["a"], metadata=pooling))


def test_vectors(client: Client) -> None:
    hi, more, again = client.vectors("hi", "something else", "hi")
    assert hi.shape == (WIDTH,)
    assert np.linalg.norm(hi) == pytest.approx(1, abs=1e-5)
    assert hi @ again == pytest.approx(1, abs=1e-5)
    assert hi @ more < 0.99
    answer = client.post("embeddings", input="hi", encoding_format="base64", model="x", user="y").json()
    assert np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), np.float32) == pytest.approx(hi, abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_the_binding_gives_the_same_vectors(tmp_path: Path) -> None:
    import llama_cpp

    file = write_scripted(tmp_path / "model.gguf", ["a"], metadata={"llama.pooling_type": POOLINGS["mean"]})
    for client in serving(file):
        (ours,) = client.vectors("so they say")
    binding = llama_cpp.Llama(str(file), embedding=True, n_ctx=512, n_threads=1, verbose=False)
    theirs = np.array(binding.embed("so they say", normalize=True))
    binding.close()
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "input must be"),
        ({"input": []}, "input must be"),
        ({"input": [[1, 2]]}, "input must be"),
        ({"input": "x" * 3000}, "input[0] is "),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format must be"),
        ({"input": "x", "dimensions": 5}, "'dimensions' is not a field"),
    ],
)
def test_what_is_refused_is_named(client: Client, fields: dict[str, Any], words: str) -> None:
    assert words in client.refused("embeddings", **fields)


def test_each_kind_of_model_does_its_own(client: Client, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert "embedding model" in client.refused("chat/completions", messages=messages)
    for writer in serving(write_scripted(tmp_path / "model.gguf", ["a"])):
        assert "gives no embeddings" in writer.refused("embeddings", input="hi")
