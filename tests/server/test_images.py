"""A picture, sent by the official clients in each API's shape, is read by a real engine with a small projector."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anthropic
import openai
import pytest
from msgspec.structs import replace

from llmctl.engine.llama_cpp.start import start
from tests.fakes import gateway, vision
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import WIDTH, write_scripted

PNG = base64.b64encode(vision.png(64, 64, seed=1)).decode()
URL = f"data:image/png;base64,{PNG}"
SOURCE = {"type": "base64", "media_type": "image/png", "data": PNG}
Asks = Callable[[str, bool], tuple[str, int]]
"""What a client is answered at an address, about a picture or without one, and how many tokens its prompt has."""


def chat(url: str, sees: bool) -> tuple[str, int]:
    picture: Any = [{"type": "image_url", "image_url": {"url": URL}}] * sees
    with openai.OpenAI(base_url=f"{url}/v1", api_key="a key", max_retries=0) as client:
        content: Any = [{"type": "text", "text": "Look"}, *picture]
        answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": content}])
    assert answer.usage is not None
    return answer.choices[0].message.content or "", answer.usage.prompt_tokens


def response(url: str, sees: bool) -> tuple[str, int]:
    picture: Any = [{"type": "input_image", "image_url": URL, "detail": "auto"}] * sees
    with openai.OpenAI(base_url=f"{url}/v1", api_key="a key", max_retries=0) as client:
        content: Any = [{"type": "input_text", "text": "Look"}, *picture]
        answer = client.responses.create(model="auto", input=[{"role": "user", "content": content}])
    assert answer.usage is not None
    return answer.output_text, answer.usage.input_tokens


def message(url: str, sees: bool) -> tuple[str, int]:
    picture: Any = [{"type": "image", "source": SOURCE}] * sees
    with anthropic.Anthropic(base_url=url, api_key="a key", max_retries=0) as client:
        content: Any = [{"type": "text", "text": "Look"}, *picture]
        asked: Any = {"model": "auto", "messages": [{"role": "user", "content": content}]}
        counted = client.messages.count_tokens(**asked).input_tokens
        answer = client.messages.create(max_tokens=8, **asked)
    (text,) = answer.content
    assert text.type == "text"
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) == counted
    return text.text, counted


CLIENTS: Mapping[str, Asks] = {"chat": chat, "response": response, "message": message}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seeing")
    fit = fit_for(write_scripted(folder / "seeing-F32.gguf", ["I", " see"]), threads=1, name="seeing")
    projector = vision.write_projector(folder / "mmproj.gguf", text_embd=WIDTH, kind="gemma3")
    engine = start(replace(fit, candidate=replace(fit.candidate, projector=projector)))
    with engine, gateway.serving(Models(Model(engine.address, "seeing"))) as url:
        yield url


@pytest.mark.parametrize("client", CLIENTS)
def test_a_picture(url: str, client: str) -> None:
    ask = CLIENTS[client]
    (blind, without), (seeing, tokens) = ask(url, False), ask(url, True)
    assert (blind, seeing) == ("I see", "I see")
    assert tokens >= without + vision.TOKENS
