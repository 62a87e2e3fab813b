"""``/v1/completions``, ``/tokenize`` and ``/detokenize`` of the worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.engine_client import Client, serving
from tests.fakes.scripted_model import Token, byte, control, write_scripted

COMPLETIONS = "/v1/completions"
START = "<|assistant|>"
SCRIPT: list[str | Token] = ["The", " end", control("<think>"), byte(0xC3), byte(0xA9), "!"]
TEXT = "The endé!"  # control tokens are no text


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    file = write_scripted(tmp_path_factory.mktemp("model") / "qwen3-scripted.gguf", SCRIPT)
    with serving(file, sequences=2) as client:
        yield client


def completed(client: Client, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = client.answer(COMPLETIONS, **{"prompt": START, "temperature": 0, **fields})
    return made


def streamed(client: Client, **fields: Any) -> list[dict[str, Any]]:
    answer = client.post(COMPLETIONS, prompt=START, temperature=0, stream=True, **fields)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_text_goes_on(client: Client) -> None:
    made = completed(client, model="m", user="u")
    assert made["object"] == "text_completion" and made["id"].startswith("cmpl-")
    (choice,) = made["choices"]
    assert choice == {"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert made["usage"]["completion_tokens"] == len(SCRIPT)
    chunks = streamed(client)
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == TEXT
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop" and chunks[-1]["usage"] == made["usage"]
    *_, end, usage = streamed(client, stream_options={"include_usage": True})
    assert end["choices"][0]["finish_reason"] == "stop" and (usage["choices"], usage["usage"]) == ([], made["usage"])


def test_a_prompt_of_tokens(client: Client) -> None:
    tokens = client.answer("/tokenize", content=START, add_special=True)["tokens"]
    for prompt in (tokens, [tokens], [START]):
        assert completed(client, prompt=prompt)["choices"][0]["text"] == TEXT


def test_length_stop_and_several_choices(client: Client) -> None:
    (choice,) = completed(client, max_tokens=2)["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("The end", "length")
    (choice,) = completed(client, stop=["nd"])["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("The e", "stop")
    choices = completed(client, n=2)["choices"]
    assert [(choice["index"], choice["text"]) for choice in choices] == [(0, TEXT), (1, TEXT)]


def test_logprobs(client: Client) -> None:
    (choice,) = completed(client, logprobs=2, max_tokens=2)["choices"]
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == ["The", " end"]
    assert len(logprobs["token_logprobs"]) == 2 and all(logprob <= 0 for logprob in logprobs["token_logprobs"])
    assert [len(top) for top in logprobs["top_logprobs"]] == [2, 2]
    assert max(logprobs["top_logprobs"][0], key=logprobs["top_logprobs"][0].__getitem__) == "The"
    chunks = streamed(client, logprobs=2, max_tokens=2)
    parts = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"] is not None]
    assert [token for part in parts for token in part["tokens"]] == logprobs["tokens"]
    assert completed(client, logprobs=0, max_tokens=1)["choices"][0]["logprobs"]["top_logprobs"] == [{}]


def test_a_grammar_holds(client: Client) -> None:
    assert completed(client, grammar='root ::= "no"')["choices"][0]["text"] == "no"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "prompt must be one text"),
        ({"prompt": []}, "prompt must be one text"),
        ({"prompt": ["a", "b"]}, "prompt must be one text"),
        ({"prompt": [1, "a"]}, "prompt must be one text"),
        ({"prompt": [1 << 40]}, "is no token of this model"),
        ({"prompt": [-1]}, "prompt: -1 is no token"),
        ({"prompt": "a" * 2000}, "the prompt is"),
        ({"prompt": [5] * 600}, "the prompt is 600 tokens, local context is 512"),
        ({"prompt": "a", "echo": True}, "echo is not supported"),
        ({"prompt": "a", "suffix": "b"}, "suffix is not supported"),
        ({"prompt": "a", "best_of": 2}, "best_of is not supported"),
        ({"prompt": "a", "logprobs": True}, "logprobs must be a whole number"),
        ({"prompt": "a", "top_logprobs": 2}, "'top_logprobs' is not a field"),
        ({"prompt": "a", "messages": []}, "'messages' is not a field"),
    ],
)
def test_what_is_refused_is_named(client: Client, fields: dict[str, Any], words: str) -> None:
    assert words in client.refused(COMPLETIONS, **fields)


def test_tokens_and_back(client: Client) -> None:
    text = "héllo <think>"
    tokens = client.answer("/tokenize", content=text)["tokens"]
    assert client.answer("/detokenize", tokens=tokens) == {"content": text}
    assert (
        client.answer("/tokenize", content="a", add_special=True)["tokens"][1:]
        == client.answer("/tokenize", content="a")["tokens"]
    )
    plain = client.answer("/tokenize", content="<think>", parse_special=False)["tokens"]
    assert len(plain) > len(client.answer("/tokenize", content="<think>")["tokens"]) == 1
    pieces = client.answer("/tokenize", content="é", with_pieces=True)["tokens"]
    assert [piece["piece"] for piece in pieces] == [[0xC3], [0xA9]]
    assert client.answer("/tokenize") == {"tokens": []} and client.answer("/detokenize") == {"content": ""}


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("/tokenize", {"content": 5}, "content must be a text"),
        ("/tokenize", {"content": "x" * ((4 << 20) + 1)}, "content is 4,194,305 bytes"),
        ("/tokenize", {"content": "x", "model": "m"}, "'model' is not a field"),
        ("/detokenize", {"tokens": ["a"]}, "tokens must be a list"),
        ("/detokenize", {"tokens": [99999]}, "tokens: 99999 is no token of this model"),
    ],
)
def test_what_is_no_text_and_no_token(client: Client, path: str, fields: dict[str, Any], words: str) -> None:
    assert words in client.refused(path, **fields)
