"""An engine whose file is a reranker scores documents by a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.encoder import CONTEXT, RANK, write_encoder
from tests.fakes.engine_client import Client, serving
from tests.fakes.scripted_model import write_scripted

DOCUMENTS = ["an apple", "the moon", "a pear and a plum", "seven"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("model") / "ranker.gguf", pooling=RANK)


@pytest.fixture(scope="module")
def client(file: Path) -> Iterator[Client]:
    with serving(file, context=CONTEXT, sequences=3) as client:
        yield client


def results(client: Client, **fields: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = client.answer("/v1/rerank", query="fruit", **fields)["results"]
    return made


def test_the_best_first(client: Client) -> None:
    ranked = results(client, documents=DOCUMENTS)
    scores = [row["relevance_score"] for row in ranked]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == len(DOCUMENTS)
    assert sorted(row["index"] for row in ranked) == list(range(len(DOCUMENTS)))
    best, second = results(client, documents=DOCUMENTS, top_n=2, return_documents=True)
    assert (best["index"], second["index"]) == (ranked[0]["index"], ranked[1]["index"])
    assert best["document"] == {"text": DOCUMENTS[best["index"]]}
    usage = client.answer("/v1/rerank", query="fruit", documents=[{"text": "seven"}])["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] == len("fruit") + len("seven") + 3  # marks around them


def test_a_score_is_that_of_the_pair_alone(client: Client) -> None:
    ranked = {row["index"]: row["relevance_score"] for row in results(client, documents=DOCUMENTS)}
    for at, document in enumerate(DOCUMENTS):
        (alone,) = results(client, documents=[document])
        assert alone["relevance_score"] == pytest.approx(ranked[at], abs=1e-4)


def test_the_query_counts(client: Client) -> None:
    scores = [
        client.answer("/v1/rerank", query=query, documents=["seven"])["results"][0]["relevance_score"]
        for query in ("fruit", "a number")
    ]
    assert abs(scores[0] - scores[1]) > 1e-3


def test_a_template_of_the_file(tmp_path: Path) -> None:
    """What stands for the query in the query itself, or in a document, stays text."""
    template = {"tokenizer.chat_template.rerank": "<|user|>{query}<|system|>{document}<|assistant|>"}
    model = write_scripted(tmp_path / "m.gguf", ["a"], metadata={"llama.pooling_type": RANK, **template})
    with serving(model) as client:
        usage = client.answer("/v1/rerank", query="ab", documents=["c", "{query}"])["usage"]
        tokens = client.answer("/tokenize", content="<|user|>ab<|system|>c<|assistant|>")["tokens"]
        more = client.answer("/tokenize", content="<|user|>ab<|system|>{query}<|assistant|>")["tokens"]
    assert usage["prompt_tokens"] == len(tokens) + len(more)


def test_a_document_that_is_too_long(client: Client) -> None:
    documents = ["seven", "x" * 200]
    error = client.post("/v1/rerank", query="fruit", documents=documents).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "documents[1]")
    assert error["message"] == f"documents[1] is {1 + 5 + 1 + 200 + 1} tokens, from 1 to {CONTEXT} are possible"
    ranked = {row["index"]: row for row in results(client, documents=documents, truncate=True)}
    assert "truncated" not in ranked[0] and ranked[1]["truncated"]
    assert "is 303 tokens" in client.refused("/v1/rerank", query="x" * 300, documents=["seven"], truncate=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"documents": ["a"]}, "query must be a text"),
        ({"query": "", "documents": ["a"]}, "query must be a text"),
        ({"query": "a"}, "documents must be a list"),
        ({"query": "a", "documents": []}, "documents must be a list"),
        ({"query": "a", "documents": ["a", 5]}, "documents[1] must be a text"),
        ({"query": "a", "documents": [{"title": "a"}]}, "documents[0] must be a text"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n must be"),
        ({"query": "a", "documents": ["a"], "max_chunks_per_doc": 3}, "'max_chunks_per_doc' is not a field"),
    ],
)
def test_what_is_refused_is_named(client: Client, fields: dict[str, Any], words: str) -> None:
    assert words in client.refused("/v1/rerank", **fields)


def test_it_gives_no_vectors_and_no_answers(client: Client) -> None:
    assert "ranks texts" in client.refused("/v1/embeddings", input="hi")
    assert "ranks texts" in client.refused("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}])


def test_scores_are_numbers(client: Client) -> None:
    assert np.isfinite([row["relevance_score"] for row in results(client, documents=[""])]).all()
