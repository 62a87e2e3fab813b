"""Requests that were recorded of coding agents (see ``source`` in each file), one after the other: each is answered in
its agent's shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from llmctl.types.endpoint import Address
from tests.fakes import gateway
from tests.fakes.gateway import Model, Models

AGENTS = Path(__file__).parent.parent / "fixtures" / "agents"
MODEL = "calling"


@pytest.fixture(scope="module")
def url(calling: Address) -> Iterator[str]:
    with gateway.serving(Models(Model(calling, MODEL))) as url:
        yield url


def asked(url: str, name: str) -> Iterator[tuple[dict[str, Any], requests.Response]]:
    agent = json.loads((AGENTS / f"{name}.json").read_text())
    for request in agent["requests"]:
        body = {**request["body"], "model": MODEL}
        yield body, requests.post(url + request["path"], json=body, headers=agent["headers"], timeout=30)


def events(answer: requests.Response) -> list[dict[str, Any]]:
    made = []
    for event in answer.text.strip().split("\n\n"):
        kind, data = event.split("\n")
        made.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {made[-1]['type']}"
    return made


def test_claude_code(url: str) -> None:
    usages = []
    for body, answer in asked(url, "claude_code"):
        assert answer.status_code == 200, answer.text
        if not body.get("stream"):
            assert answer.json().keys() >= ({"input_tokens"} if "max_tokens" not in body else {"content", "usage"})
            continue
        said = events(answer)
        starts = [event["content_block"] for event in said if event["type"] == "content_block_start"]
        assert [block["type"] for block in starts] == ["thinking", "tool_use"]
        given = "".join(event["delta"].get("partial_json", "") for event in said if "delta" in event)
        assert json.loads(given) == {"at": "Oslo"}
        assert (said[-1]["type"], said[-2]["delta"]["stop_reason"]) == ("message_stop", "tool_use")
        usages.append(said[-2]["usage"])
    first, second = usages
    assert second["cache_read_input_tokens"] > first["input_tokens"] / 2  # its billing header changes, the prompt not


def test_codex(url: str) -> None:
    for _, answer in asked(url, "codex"):
        assert answer.status_code == 200, answer.text
        said = events(answer)
        done = [event["item"] for event in said if event["type"] == "response.output_item.done"]
        assert [item["type"] for item in done] == ["reasoning", "function_call"]
        assert json.loads(done[-1]["arguments"]) == {"at": "Oslo"}
        assert said[-1]["type"] == "response.completed"
        assert said[-1]["response"]["usage"]["output_tokens"] > 0
