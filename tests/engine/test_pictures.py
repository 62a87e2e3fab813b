"""Pictures, read by the real engine with small vision projectors of random weights."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec.structs import replace

from llmctl.engine.llama_cpp.pictures import LIMIT_BYTES, MOST_PICTURES, Picture, pictures_of
from llmctl.engine.llama_cpp.refused import RefusedError
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Engine
from llmctl.errors import EngineError
from tests.engine.test_context import TINY, WIDTH, figures, save
from tests.fakes import vision
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, Kind, Value, llama_metadata, llama_tensors, write

A, B = vision.png(100, 80, seed=1), vision.png(64, 64, seed=2)
ANSWER = {"max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 5}
MARKS = ("\n\n", "<fake_token_around_image>", "<global-img>")
QUESTION = {"type": "text", "text": "What do you see in this picture?"}
Answer = tuple[list[float], dict[str, Any]]


def language_model(path: Path) -> Path:
    """Of random weights, with the tokens that SmolVLM puts around a picture."""
    metadata = llama_metadata(TINY)
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(kinds, list)
    tokens[-3:], kinds[-3:] = MARKS, [Kind(5, "i", 3)] * 3
    metadata["llama.context_length"] = 4096
    return write(path, metadata, llama_tensors(TINY), fill=Fill.RANDOM)


def loaded(model: Path, projector: Path | None, *, sequences: int = 1) -> Engine:
    fit = fit_for(model, context=1024, threads=1, sequences=sequences)
    return start(replace(fit, candidate=replace(fit.candidate, projector=projector)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("language") / "model.gguf")


def qwen(path: Path) -> Path:
    """A model for which a picture's tokens have a row and a column, and few positions of the text."""
    own: dict[str, Value] = {"feed_forward_length": WIDTH, "attention__head_count": 4, "attention__head_count_kv": 4}
    own |= {"rope__dimension_sections": [2, 3, 3, 0]}
    block: dict[str, tuple[int, ...]] = {"attn_norm.weight": (WIDTH,), "ffn_norm.weight": (WIDTH,)}
    block |= {f"attn_{name}.bias": (WIDTH,) for name in ("q", "k", "v")}
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    return save(path, figures("qwen2vl", **own), block | {f"{name}.weight": (WIDTH, WIDTH) for name in matrices})


@pytest.fixture(scope="module", params=["idefics3", "gemma3", "qwen2vl_merger"])
def engine(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("vision")
    file = folder / "mmproj.gguf"
    model = qwen(folder / "qwen.gguf") if request.param.startswith("qwen") else model
    with loaded(model, vision.write_projector(file, text_embd=TINY.n_embd, kind=request.param), sequences=2) as engine:
        yield engine


def picture(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def post(engine: Engine, *parts: dict[str, Any], **fields: Any) -> requests.Response:
    return requests.post(
        f"{engine.address.url}/chat/completions",
        json={"messages": [{"role": "user", "content": list(parts)}], **ANSWER, **fields},
        headers={"Authorization": f"Bearer {engine.address.token}"},
        timeout=60,
    )


def answered(engine: Engine, *parts: dict[str, Any], **fields: Any) -> Answer:
    """The logprobs of the likeliest tokens at each place, in a row, and the usage."""
    answer = post(engine, *parts, **fields)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    tokens = made["choices"][0]["logprobs"]["content"]
    return [top["logprob"] for token in tokens for top in token["top_logprobs"]], made["usage"]


def test_an_answer_depends_on_the_picture(engine: Engine) -> None:
    first, usage = answered(engine, picture(A), QUESTION)
    for others in ([picture(B), QUESTION], [QUESTION], [QUESTION, picture(A)], [picture(A), picture(B), QUESTION]):
        assert answered(engine, *others)[0][0] != pytest.approx(first[0], abs=1e-3)
    again, _ = answered(engine, picture(A), QUESTION, prompt_cache=False)
    assert again == pytest.approx(first, abs=0.02)
    assert usage["prompt_tokens"] > vision.TOKENS


def test_a_picture_is_found_again(engine: Engine) -> None:
    """By its bytes: another one of the same size isn't taken for it."""
    question = {"type": "text", "text": f"What is it that stands there? {random.random()}"}
    first, _ = answered(engine, picture(A), question)
    _, usage = answered(engine, picture(B), question)
    again, usage_again = answered(engine, picture(A), question)
    assert again == pytest.approx(first, abs=0.02)
    cached, cached_again = (each["prompt_tokens_details"]["cached_tokens"] for each in (usage, usage_again))
    assert cached + vision.TOKENS < cached_again


def test_pictures_beside_other_answers(engine: Engine) -> None:
    """Each gets what it gets alone; a prompt that ends with a picture is answered, too."""
    asked = [[picture(A), QUESTION], [QUESTION], [QUESTION, picture(B)], [picture(B), QUESTION]] * 2
    alone = [answered(engine, *parts, prompt_cache=False)[0] for parts in asked[:4]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda parts: answered(engine, *parts, prompt_cache=False)[0], asked))
    for made, expected in zip(together, alone * 2, strict=True):
        assert made[0] == pytest.approx(expected[0], abs=0.02)


def test_several_answers_to_one_picture(engine: Engine) -> None:
    made = post(engine, picture(A), QUESTION, n=2).json()
    assert len(made["choices"]) == 2
    assert made["choices"][0]["message"] == made["choices"][1]["message"]


def refused(*parts: dict[str, Any]) -> str:
    with pytest.raises(RefusedError) as error:
        pictures_of([{"role": "user", "content": list(parts)}])
    return str(error.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/cat.png", "this engine fetches nothing"),
        ("file:///etc/passwd", "this engine fetches nothing"),
        (None, "this engine fetches nothing"),
        ("data:image/png;base64,????", "is not base64"),
        ("data:image/png;base64,aGVsbG8=", "is no PNG, JPEG or GIF"),
        (f"data:image/png;base64,{base64.b64encode(A[:18]).decode()}", "is a broken image"),
        (f"data:image/png;base64,{'A' * (LIMIT_BYTES * 4 // 3 + 8)}", "more than 20,971,520 bytes"),
        (
            f"data:image/png;base64,{base64.b64encode(A[:16] + bytes([0, 0, 80, 0] * 2)).decode()}",
            "20,480 x 20,480 pixels, 25,000,000",
        ),
    ],
)
def test_what_is_no_picture(url: str | None, words: str) -> None:
    assert words in refused(QUESTION, {"type": "image_url", "image_url": {"url": url}})


def test_pictures_are_read_in_their_order() -> None:
    assert "17 images" in refused(*[picture(A)] * (MOST_PICTURES + 1))
    large = A[:16] + bytes([0, 0, 16, 0] * 2) + A[24:]
    assert "33,554,432 pixels in all" in refused(picture(large), picture(large))
    content = [picture(A), QUESTION, picture(B)]
    made = pictures_of([{"role": "system", "content": "x"}, {"role": "user", "content": content}])
    assert made == (Picture("messages[1].content[0]", A, 8000), Picture("messages[1].content[2]", B, 4096))


def test_a_file_that_ends_too_early_is_refused(engine: Engine) -> None:
    answer = post(engine, QUESTION, picture(A[: len(A) // 2]))
    assert answer.status_code in (200, 400)  # the decoder may make do with half of it
    assert answered(engine, QUESTION)


def test_more_than_the_context(engine: Engine) -> None:
    answer = post(engine, {"type": "text", "text": "word " * 2000}, picture(A))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_without_a_projector(model: Path) -> None:
    with loaded(model, None) as engine:
        answer = post(engine, QUESTION, picture(A))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages[0].content[1] is an image, and this engine reads text alone"


@pytest.mark.parametrize("text_embd", [TINY.n_embd, TINY.n_embd // 2])
def test_a_projector_that_is_another_models(tmp_path: Path, model: Path, text_embd: int) -> None:
    """A broken one, and one of another width."""
    file = vision.write_projector(tmp_path / "mmproj.gguf", text_embd=text_embd)
    if text_embd == TINY.n_embd:
        file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(EngineError) as error, ExitStack() as stack:
        stack.enter_context(loaded(model, file))
    assert f"its vision projector {file} can't be loaded: " in error.value.message
