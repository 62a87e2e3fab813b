"""What a client gets of the engine that asks in OpenAI's words: whole answers, several, logprobs, tools, schemas."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write
from tests.fakes.scripted_model import TEMPLATE, Token, control, write_scripted

ANSWER = ("The", " answer", " is", " 42", ".")
HI = [{"role": "user", "content": "hi"}]
WITH_TOOLS = "{% for tool in tools or [] %}{{ tool['function']['name'] }}{% endfor %}" + TEMPLATE
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}}
THINKS: list[str | Token] = [control("<think>"), "secret", " plan", control("</think>")]


class Client:
    def __init__(self, address: Address) -> None:
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {address.token}"
        self._url = f"{address.url}/chat/completions"

    def post(self, **fields: Any) -> requests.Response:
        return self._session.post(self._url, json={"messages": HI, **fields}, timeout=120)

    def whole(self, **fields: Any) -> dict[str, Any]:
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        read: dict[str, Any] = answer.json()
        return read

    def choice(self, **fields: Any) -> dict[str, Any]:
        (choice,) = self.whole(**fields)["choices"]
        read: dict[str, Any] = choice
        return read

    def chunks(self, **fields: Any) -> list[dict[str, Any]]:
        lines = self.post(stream=True, **fields).text.split("\n\n")
        events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]

    def refused(self, **fields: Any) -> str:
        answer = self.post(**fields)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"]["message"])


def scripted(folder: Path, script: list[str | Token], template: str | None = TEMPLATE) -> Iterator[Client]:
    with start(fit_for(write_scripted(folder / "model.gguf", script, template=template), threads=1)) as engine:
        yield Client(engine.address)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    yield from scripted(tmp_path_factory.mktemp("plain"), [*THINKS, *ANSWER])


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a model of random weights: what it says depends on how it is drawn."""
    file, tiny = tmp_path_factory.mktemp("random") / "model.gguf", model_shape("tiny")
    write(file, llama_metadata(tiny), llama_tensors(tiny), fill=Fill.RANDOM)
    with start(fit_for(file, context=1024)) as engine:
        yield Client(engine.address)


def test_a_whole_answer(plain: Client) -> None:
    answer = plain.whole()
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The answer is 42.", "reasoning_content": "secret plan"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["completion_tokens"] == len(THINKS) + len(ANSWER)


def test_chunks_are_those_of_one_answer(plain: Client) -> None:
    chunks = plain.chunks()
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert [delta.get("role") for delta in deltas] == ["assistant", *[None] * (len(deltas) - 1)]
    assert "".join(delta.get("content", "") for delta in deltas) == "The answer is 42."
    assert chunks[-1]["usage"]["total_tokens"] > 0


def test_several_answers(random: Client) -> None:
    asked: dict[str, Any] = {"n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 8}
    answer = random.whole(**asked)
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert [choice["message"]["content"] for choice in random.whole(**asked)["choices"]] == texts
    assert answer["usage"]["completion_tokens"] == 24


def test_logprobs(random: Client) -> None:
    choice = random.choice(logprobs=True, top_logprobs=3, temperature=0, max_tokens=4)
    told = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in told) == choice["message"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in told).decode() == choice["message"]["content"]
    for token in told:
        assert len(token["top_logprobs"]) == 3
        assert token["top_logprobs"][0]["token"] == token["token"]
        assert 0 < math.exp(token["logprob"]) <= 1
    streamed = random.chunks(logprobs=True, temperature=0, max_tokens=4)
    content = [shown["logprobs"]["content"] for chunk in streamed for shown in chunk["choices"] if "logprobs" in shown]
    assert [token["token"] for tokens in content for token in tokens] == [token["token"] for token in told]


CALL = ['{"name": "', "look", '", "arguments": {"at": "', "sky", '"}}']
CALLED = {"name": "look", "arguments": '{"at": "sky"}'}


SAID: list[str | Token] = ["Well", "."]
ARGUMENTS = ('{"at": "', "sky", '"}')


@pytest.mark.parametrize(
    ("marks", "script", "text"),
    [
        ("<tool_call>", [*SAID, "<tool_call>", *CALL, "</tool_call>"], "Well."),
        ("<tool_call>", [*SAID, control("<tool_call>"), *CALL, control("</tool_call>")], "Well."),
        ("<tool_call>", [*THINKS, *SAID, control("<tool_call>"), *CALL, control("</tool_call>")], "Well."),
        ("[TOOL_CALLS]", [*SAID, control("[TOOL_CALLS]"), "look", control("[ARGS]"), *ARGUMENTS], "Well."),
        ("<|tool_call|>", [*SAID, control("<|tool_call|>"), "[", *CALL, "]"], "Well."),
        ("<function=", [*SAID, "<function=", "look>", "<parameter=at>", "sky", "</parameter>", "</function>"], "Well."),
        (
            "to=functions.",
            [
                *(control("<|channel|>"), "commentary", " to=", "functions.", "look", control("<|message|>")),
                *(*ARGUMENTS, control("<|call|>")),
            ],
            None,
        ),
        (
            "<｜tool▁calls▁begin｜>",
            [
                *(*SAID, control("<｜tool▁calls▁begin｜>"), control("<｜tool▁call▁begin｜>"), "look"),
                *(
                    control("<｜tool▁sep｜>"),
                    *ARGUMENTS,
                    control("<｜tool▁call▁end｜>"),
                    control("<｜tool▁calls▁end｜>"),
                ),
            ],
            "Well.",
        ),
    ],
)
def test_calls_of_tools(tmp_path: Path, marks: str, script: list[str | Token], text: str | None) -> None:
    template = WITH_TOOLS + "{# " + marks + " #}"
    for client in scripted(tmp_path, script, template):
        choice = client.choice(tools=[LOOK])
        (call,) = choice["message"]["tool_calls"]
        assert (call["type"], call["function"]) == ("function", CALLED)
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "tool_calls")
        streamed = [shown["delta"] for chunk in client.chunks(tools=[LOOK]) for shown in chunk["choices"]]
        assert "".join(delta.get("content", "") for delta in streamed) == (text or "")
        (calls,) = [delta["tool_calls"] for delta in streamed if "tool_calls" in delta]
        assert (calls[0]["index"], calls[0]["function"]) == (0, CALLED)
        untold = client.choice(tools=[LOOK], tool_choice="none")
        assert ("tool_calls" in untold["message"], untold["finish_reason"]) == (False, "stop")


def test_only_one_call_where_that_is_asked(tmp_path: Path) -> None:
    script = ["[TOOL_CALLS]", '[{"name": "look"}, {"name": "look", "arguments": {"at": 5}}]']
    for client in scripted(tmp_path, list(script), WITH_TOOLS + "{# [TOOL_CALLS] #}"):
        assert len(client.choice(tools=[LOOK])["message"]["tool_calls"]) == 2
        assert len(client.choice(tools=[LOOK], parallel_tool_calls=False)["message"]["tool_calls"]) == 1


def test_what_a_model_can_not_do_is_refused(plain: Client, tmp_path: Path) -> None:
    assert "takes no tools" in plain.refused(tools=[LOOK])
    assert "no token of this model" in plain.refused(logit_bias={"99999999": 1})
    assert "grammar" in plain.refused(grammar="root ::= missing")
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    assert "takes no messages with tool_calls" in plain.refused(messages=[*HI, called, *HI])
    for client in scripted(tmp_path, list(ANSWER), WITH_TOOLS):
        assert "doesn't know how this model writes calls" in client.refused(tools=[LOOK])
    for client in scripted(tmp_path, list(ANSWER), WITH_TOOLS + "{# <|tool_call_start|> #}"):
        assert "tool_choice: calls can't be forced" in client.refused(tools=[LOOK], tool_choice="required")
    for client in scripted(tmp_path, list(ANSWER), None):
        assert "no chat template" in client.refused(tools=[LOOK])
        assert client.choice()["message"]["content"]


def test_an_answer_to_a_schema(random: Client) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
        },
        "required": ["name", "age", "colours"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    choice = random.choice(response_format=form, seed=1, max_tokens=300)
    assert choice["finish_reason"] == "stop"
    jsonschema.validate(json.loads(choice["message"]["content"]), schema)


def test_a_grammar_waits_for_the_end_of_a_thought(tmp_path: Path) -> None:
    template = TEMPLATE.replace("<|assistant|>", "<think>\n<|assistant|>")
    for client in scripted(tmp_path, ["secret", " plan", control("</think>"), *ANSWER], template):
        message = client.choice(grammar='root ::= "The" " answer" " is" " 42."')["message"]
    assert (message["reasoning_content"], message["content"]) == ("secret plan", "The answer is 42.")


def test_a_call_that_must_come_is_forced(tmp_path: Path) -> None:
    script: list[str | Token] = ["No", " tools", " today", "."]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"at": {"enum": ["sky"]}}}}}
    for client in scripted(tmp_path, script, WITH_TOOLS + "{# [TOOL_CALLS] #}"):
        for choose in ("required", {"type": "function", "function": {"name": "look"}}):
            choice = client.choice(tools=[tool], tool_choice=choose, max_tokens=200)
            (call,) = choice["message"]["tool_calls"]
            assert call["function"]["name"] == "look"
            assert json.loads(call["function"]["arguments"]) in ({}, {"at": "sky"})
            assert choice["finish_reason"] == "tool_calls"
