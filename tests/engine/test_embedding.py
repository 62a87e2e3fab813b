"""An engine whose file is an embedding model gives vectors, and answers no chat."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from llmctl.catalogue import from_file
from llmctl.engine.llama_cpp.start import start
from llmctl.planner.compute import grown_output_bytes
from llmctl.types.plan import UBATCH, Configuration
from tests.fakes.encoder import CONTEXT, WIDTH, write_encoder
from tests.fakes.engine_client import Client, serving
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write
from tests.fakes.scripted_model import WIDTH as SCRIPTED_WIDTH
from tests.fakes.scripted_model import write_scripted

MEAN, LAST = 1, 3  # enum llama_pooling_type
EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    file = write_encoder(tmp_path_factory.mktemp("model") / "encoder.gguf")
    with serving(file, context=CONTEXT, sequences=4) as client:
        yield client


@pytest.fixture(scope="module", params=["encoder", "mean", "last"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, int]]:
    """An encoder, and decoders whose vectors are made in two ways; with the width of a vector."""
    if request.param == "encoder":
        yield request.getfixturevalue("encoder"), WIDTH
        return
    pooling = {"llama.pooling_type": MEAN if request.param == "mean" else LAST}
    file = write_scripted(tmp_path_factory.mktemp("model") / "model.gguf", ["a"], metadata=pooling)
    with serving(file) as decoder:
        yield decoder, SCRIPTED_WIDTH


def test_vectors(client: tuple[Client, int]) -> None:
    asked, width = client
    hi, more, again = asked.vectors("hi", "something else", "hi")
    assert hi.shape == (width,)
    assert np.linalg.norm(hi) == pytest.approx(1, abs=1e-5)
    assert hi @ again == pytest.approx(1, abs=1e-5)
    assert hi @ more < 0.99
    answer = asked.answer(EMBEDDINGS, input="hi", encoding_format="base64", model="x", user="y")
    assert np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), np.float32) == pytest.approx(hi, abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_texts_together_have_the_vectors_that_they_have_alone(encoder: Client) -> None:
    texts = ["one", "a text of some words", "x" * 40, "two", "three", "four"]
    together = encoder.vectors(*texts)
    alone = np.concatenate([encoder.vectors(text) for text in texts])
    assert together == pytest.approx(alone, abs=1e-3)  # kernels round by the size of a batch
    assert np.abs(alone[0] - alone[3]).max() > 0.1


def test_vectors_as_the_model_made_them(encoder: Client) -> None:
    (bare,), (normal,) = encoder.vectors("hi", embd_normalize=-1), encoder.vectors("hi", embd_normalize=2)
    assert np.linalg.norm(bare) > 2
    assert bare / np.linalg.norm(bare) == pytest.approx(normal, abs=1e-6)


def test_tokens_in_place_of_a_text(encoder: Client) -> None:
    tokens = encoder.answer("/tokenize", content="hello", add_special=True)["tokens"]
    assert encoder.vectors(tokens) == pytest.approx(encoder.vectors("hello"), abs=1e-6)
    assert "999 is no token of this model" in encoder.refused(EMBEDDINGS, input=[[999]])


def test_what_is_too_long_is_cut_on_request_alone(encoder: Client) -> None:
    long = "x" * CONTEXT
    answer = encoder.post(EMBEDDINGS, input=["x", long])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input[1]")
    assert error["message"] == f"input[1] is {CONTEXT + 2} tokens, from 1 to {CONTEXT} are possible"
    rows = encoder.answer(EMBEDDINGS, input=["x", long], truncate=True)["data"]
    assert [(row["tokens"], row.get("truncated", False)) for row in rows] == [(3, False), (CONTEXT, True)]
    (whole,) = encoder.vectors("x" * (CONTEXT - 2))  # with a mark at either end
    assert rows[1]["embedding"] == pytest.approx(whole, abs=1e-3)


def test_the_binding_gives_the_same_vectors(tmp_path: Path) -> None:
    import llama_cpp

    file = write_scripted(tmp_path / "model.gguf", ["a"], metadata={"llama.pooling_type": MEAN})
    with serving(file) as client:
        (ours,) = client.vectors("so they say")
    binding = llama_cpp.Llama(str(file), embedding=True, n_ctx=512, n_threads=1, verbose=False)
    theirs = np.array(binding.embed("so they say", normalize=True))
    binding.close()
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_text_that_is_longer_than_what_is_computed_at_once(tmp_path: Path) -> None:
    """By a decoder whose vector is that of the last token: the parts of a text see those before them."""
    import llama_cpp

    shape = replace(model_shape("tiny"), context=4096)
    file = write(
        tmp_path / "m.gguf",
        {**llama_metadata(shape), "llama.pooling_type": LAST},
        llama_tensors(shape),
        fill=Fill.RANDOM,
    )
    text = " ".join(f"w{number}" for number in range(1, 200))
    with serving(file, context=2048) as client:
        (ours,) = client.vectors(text)
        tokens = client.answer("/tokenize", content=text, add_special=True)["tokens"]
        assert len(tokens) > UBATCH
        assert "from 1 to 2,048 are possible" in client.refused(EMBEDDINGS, input=tokens * 3)
    binding = llama_cpp.Llama(
        str(file), embedding=True, n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=1, verbose=False
    )
    theirs = np.array(binding.embed(text, normalize=True))
    binding.close()
    assert ours @ theirs > 0.999


def test_a_pooled_text_takes_the_memory_that_is_planned(tmp_path: Path) -> None:
    """The engine keeps a row of logits for each token, which nobody reads (planner.compute.grown_output_bytes)."""
    vocabulary, context = 50_000, 512
    file = write_encoder(tmp_path / "m.gguf", context=context, more_tokens=vocabulary)
    with start(fit_for(file, context=context, threads=1)) as engine:
        process, client = psutil.Process(engine.pid), Client(engine.address.url, engine.address.token)
        client.vectors("x")
        before = process.memory_full_info().uss
        client.vectors("x" * (context - 2))
        grown = process.memory_full_info().uss - before
    planned = grown_output_bytes(from_file(file).model.shape, Configuration(context, ubatch=context))
    assert planned > vocabulary * context * 4
    assert 0.9 * planned < grown < 1.2 * planned


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "input must be"),
        ({"input": []}, "input must be"),
        ({"input": [[]]}, "input must be"),
        ({"input": [[1.5]]}, "input must be"),
        ({"input": ["a", 1]}, "input must be"),
        ({"input": [True]}, "input must be"),
        ({"input": "x" * 3000}, "input[0] is "),
        ({"input": ["x", "x" * ((4 << 20) + 1)], "truncate": True}, "input[1] is 4,194,305 bytes"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format must be"),
        ({"input": "x", "embd_normalize": 1}, "embd_normalize must be 2"),
        ({"input": "x", "truncate": 1}, "truncate must be true or false"),
        ({"input": "x", "dimensions": 5}, "'dimensions' is not a field"),
    ],
)
def test_what_is_refused_is_named(client: tuple[Client, int], fields: dict[str, Any], words: str) -> None:
    assert words in client[0].refused(EMBEDDINGS, **fields)


def test_each_kind_of_model_does_its_own(encoder: Client, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert "embedding model" in encoder.refused("/v1/chat/completions", messages=messages)
    assert "embedding model" in encoder.refused("/v1/completions", prompt="hi")
    assert "no model that ranks" in encoder.refused("/v1/rerank", query="a", documents=["b"])
    with serving(write_scripted(tmp_path / "model.gguf", ["a"])) as writer:
        assert "gives no embeddings" in writer.refused(EMBEDDINGS, input="hi")
        assert "no model that ranks" in writer.refused("/v1/rerank", query="a", documents=["b"])
