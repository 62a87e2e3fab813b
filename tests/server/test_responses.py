"""OpenAI's official clients ask the gateway, those of Python and npm: Responses, chat, texts, and errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llmctl.types.endpoint import Address
from tests.fakes import gateway
from tests.fakes.gateway import Model, Models

ANSWER = "The answer is 42."
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather at a place",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    "strict": False,
}


PACKAGE = "openai@7"
ASKS = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "a key", maxRetries: 0 });
const messages = [{ role: "user", content: "hi" }];
const chat = await client.chat.completions.create({ model: "scripted", messages });
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: "scripted", messages, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const stream = client.responses.stream({ model: "scripted", input: "hi" });
const response = await stream.finalResponse();
const models = (await client.models.list()).data.map((model) => model.id);
const error = await client.responses.create({ model: "scripted", input: "hi", store: true }).catch((error) => error);
console.log(JSON.stringify({
  chat: chat.choices[0].message.content, streamed, response: response.output_text, models,
  status: error.status, message: error.message,
}));
"""


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="a key", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def caller(calling: Address) -> Iterator[openai.OpenAI]:
    """Of a model that thinks, then calls a tool."""
    with (
        gateway.serving(Models(Model(calling, "calling"))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="a key", max_retries=0, timeout=30) as client,
    ):
        yield client


def streamed(client: openai.OpenAI, **asked: Any) -> tuple[list[Any], Any]:
    """The events, and the response that they make."""
    events = list(client.responses.create(stream=True, **asked))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events, events[-1].response


def test_a_response(client: openai.OpenAI) -> None:
    response = client.responses.create(model="scripted", input="hi", instructions="Be brief.", store=False)
    assert (response.status, response.output_text, response.model) == ("completed", ANSWER, "scripted")
    assert response.usage is not None and response.usage.output_tokens == 5
    assert (response.instructions, response.previous_response_id) == ("Be brief.", None)


def test_a_stream(client: openai.OpenAI) -> None:
    events, response = streamed(client, model="scripted", input=[{"role": "user", "content": "hi"}])
    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
    assert [event.type for event in events if not event.type.endswith("delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_that_is_cut(client: openai.OpenAI, streams: bool) -> None:
    asked: dict[str, Any] = {"model": "scripted", "input": "hi", "max_output_tokens": 2}
    response = streamed(client, **asked)[1] if streams else client.responses.create(**asked)
    assert (response.status, response.output_text) == ("incomplete", "The answer")
    assert response.incomplete_details is not None and response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("streams", [True, False])
def test_thoughts_and_a_call(caller: openai.OpenAI, streams: bool) -> None:
    asked: dict[str, Any] = {"model": "calling", "input": "hi", "tools": [WEATHER, {"type": "web_search"}]}
    response = streamed(caller, **asked)[1] if streams else caller.responses.create(**asked)
    thought, call = response.output
    assert thought.type == "reasoning" and thought.content is not None and thought.content[0].text == "Look it up"
    assert call.type == "function_call" and (call.name, call.arguments) == ("weather", '{"at": "Oslo"}')


def test_a_conversation_with_a_result(client: openai.OpenAI) -> None:
    """The model is scripted, so what is shown is that every kind of item is taken."""
    items: Any = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"at": "Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It rains.", "annotations": []}]},
        {"role": "user", "content": "and now?"},
    ]
    response = client.responses.create(model="scripted", instructions="You know the weather.", input=items)
    assert response.output_text == ANSWER
    assert response.usage is not None and response.usage.input_tokens > 60


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"model": "other"}, "NotFoundError", "other"),
        ({"previous_response_id": "resp_1"}, "BadRequestError", "previous_response_id"),
        ({"store": True}, "BadRequestError", "store"),
        ({"background": True}, "BadRequestError", "background"),
        ({"include": ["message.output_text.logprobs"]}, "BadRequestError", "include[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "BadRequestError", "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "BadRequestError",
            "input[0].content",
        ),
        ({"input": []}, "BadRequestError", "input"),
        ({"tools": [{"type": "mcp"}]}, "BadRequestError", "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "BadRequestError", "tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "a"}]}, "BadRequestError", "tools[0].tools"),
        (
            {"tools": [{"type": "namespace", "name": "a", "tools": [{"type": "custom"}]}]},
            "BadRequestError",
            "tools[0].tools[0].type",
        ),
        ({"text": {"format": {"type": "wings"}}}, "BadRequestError", "response_format"),
        ({"extra_body": {"wings": 2}}, "BadRequestError", "wings"),
        ({"input": "long " * 900}, "BadRequestError", "512"),
    ],
)
def test_what_cannot_be_done_is_named(client: openai.OpenAI, fields: dict[str, Any], error: str, named: str) -> None:
    with pytest.raises(getattr(openai, error), match=re.escape(named)):
        client.responses.create(**{"model": "scripted", "input": "hi", **fields})


def test_a_chat(client: openai.OpenAI) -> None:
    asked: Any = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    assert client.chat.completions.create(**asked).choices[0].message.content == ANSWER
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        said = stream.get_final_completion()
    assert said.choices[0].message.content == ANSWER
    assert said.usage is not None and said.usage.completion_tokens == 5
    probable = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert probable.choices[0].logprobs is not None and len(probable.choices[0].logprobs.content or ()) == 5


def test_a_chat_calls_a_tool(caller: openai.OpenAI) -> None:
    function = {name: value for name, value in WEATHER.items() if name not in ("type", "strict")}
    tools: Any = [{"type": "function", "function": function}]
    asked: Any = {"model": "calling", "messages": [{"role": "user", "content": "hi"}], "tools": tools}
    answer = caller.chat.completions.create(**asked).choices[0]
    calls = answer.message.tool_calls or []
    assert [call.type == "function" and call.function.arguments for call in calls] == ['{"at": "Oslo"}']
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("shape", ["chat", "responses"])
def test_a_schema(client: openai.OpenAI, shape: str) -> None:
    """Which this model, that says something else by itself, is held to."""
    schema: Any = {"name": "counted", "schema": {"const": {"The": 4}}, "strict": True}
    asked: Any = {"model": "scripted"}
    if shape == "chat":
        asked |= {"messages": [{"role": "user", "content": "hi"}]}
        asked |= {"response_format": {"type": "json_schema", "json_schema": schema}}
        text = client.chat.completions.create(**asked).choices[0].message.content
    else:
        asked |= {"input": "hi", "text": {"format": {"type": "json_schema", **schema}}}
        text = client.responses.create(**asked).output_text
    assert text is not None and text.replace(" ", "") == '{"The":4}'


def test_an_embedding_is_refused_by_a_model_that_writes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="gives no embeddings"):
        client.embeddings.create(model="scripted", input="hi")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "llmctl"


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    asked: Any = {"model": "scripted", "prompt": "hi<|assistant|>"}
    whole = client.completions.create(**asked).choices[0].text
    pieces = client.completions.create(**asked, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == whole == "The answer is 42."


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    folder = tmp_path_factory.mktemp("npm")
    fetched = subprocess.run(
        [npm, "pack", "--silent", "--ignore-scripts", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if fetched.returncode:
        pytest.skip(f"npm can't fetch {PACKAGE} here: {fetched.stderr[:200]}")
    modules = folder / "node_modules"
    with tarfile.open(folder / fetched.stdout.strip()) as package:
        needed = [file for file in package if file.name.endswith((".mjs", ".js", "package.json"))]
        package.extractall(modules, needed, filter="data")
    (modules / "package").rename(modules / "openai")
    program = folder / "ask.mjs"
    program.write_text(ASKS)
    return program


def test_the_npm_client(url: str, program: Path) -> None:
    argv = ["node", str(program), url]
    asked = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(asked.stdout)
    assert [answer[name] for name in ("chat", "streamed", "response")] == ["The answer is 42."] * 3
    assert (answer["models"], answer["status"]) == (["scripted"], 400)
    assert "store" in answer["message"]
