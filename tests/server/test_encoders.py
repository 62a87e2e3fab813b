"""Vectors and ranks through the gateway, of real engines with tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from llmctl.engine.llama_cpp.start import start
from tests.fakes import gateway
from tests.fakes.encoder import CONTEXT, RANK, WIDTH, write_encoder
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("encoders")
    encoder = fit_for(write_encoder(folder / "encoder.gguf"), context=CONTEXT, threads=1, name="encoder")
    reranker = fit_for(write_encoder(folder / "reranker.gguf", pooling=RANK), context=CONTEXT, threads=1, name="ranker")
    with start(encoder) as vectors, start(reranker) as ranks:
        models = Models(Model(vectors.address, "encoder"), Model(ranks.address, "ranker"))
        with gateway.serving(models) as url:
            yield url


def test_vectors(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="a key", max_retries=0) as client:
        answer = client.embeddings.create(model="encoder", input=["hi", "there"])
    assert [len(row.embedding) for row in answer.data] == [WIDTH] * 2
    assert (answer.model, answer.usage.prompt_tokens > 0) == ("encoder", True)


def test_ranks(url: str) -> None:
    body: Any = {"model": "ranker", "query": "hi", "documents": ["hi", "there"], "top_n": 1, "return_documents": True}
    (result,) = requests.post(f"{url}/v1/rerank", json=body, timeout=30).json()["results"]
    assert result["document"]["text"] == body["documents"][result["index"]]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"model": "encoder", "prompt": "hi"}),
        ("/v1/messages", {"model": "ranker", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_a_model_that_does_something_else_says_so(url: str, path: str, fields: Any) -> None:
    answer = requests.post(url + path, json=fields, timeout=30)
    assert answer.status_code == 400
    assert "answers none" in answer.json()["error"]["message"]
