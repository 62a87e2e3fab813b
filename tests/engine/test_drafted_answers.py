"""Answers of the real engine whose tokens were drafted: the same text, logprobs and usage as without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import Token, write_scripted

# Each is one token, in a prompt as in an answer: its two letters stand together nowhere else.
COPIED: list[str | Token] = [high + low for high in "ABCDEFGHIJKLMNOP" for low in "abcdefghijklmnopqrstuvwxyz"]
TEXT = "".join(map(str, COPIED))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Of a model that always answers with TEXT."""
    file = write_scripted(tmp_path_factory.mktemp("copies") / "model.gguf", COPIED)
    with start(fit_for(file, context=2048, threads=1)) as engine:
        yield engine.address


def post(address: Address, prompt: str, **fields: Any) -> requests.Response:
    fields = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, **fields}
    headers = {"Authorization": f"Bearer {address.token}"}
    return requests.post(f"{address.url}/chat/completions", json=fields, headers=headers, timeout=120)


def answered(address: Address, prompt: str, **fields: Any) -> dict[str, Any]:
    answer = post(address, prompt, **fields)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


def answered_by_drafts(address: Address, **fields: Any) -> dict[str, Any]:
    """A step of this model takes less than a millisecond: while another program has the cores, a batch may seem to cost
    too much, and nothing is drafted until that is forgotten."""
    for _ in range(8):
        answer = answered(address, TEXT, **fields)
        if answer["timings"]["draft_n_accepted"] > 8:
            break
    return answer


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 333},
        {"stop": ["PaPb"]},
        {"stop": ["CdC", "nowhere"]},
        {"grammar": "root ::= [A-Za-z]+"},
        {"grammar": 'root ::= "' + TEXT[:300] + '"'},
        {"logprobs": True, "top_logprobs": 2},
        {"logit_bias": {"3": -100}},
        {"n": 2, "max_tokens": 100},
    ],
    ids=lambda fields: "-".join(fields) or "plain",
)
def test_a_copied_text_is_drafted_and_is_the_same(address: Address, fields: dict[str, Any]) -> None:
    plain = answered(address, TEXT, **fields, speculate=False)
    fields = {**fields, "speculate": True}
    drafted = answered_by_drafts(address, **fields) if "n" not in fields else answered(address, TEXT, **fields)
    assert drafted["choices"] == plain["choices"]
    usage = [answer["usage"]["completion_tokens"] for answer in (plain, drafted)]
    assert usage[0] == usage[1] > 50
    assert (plain["timings"]["draft_n"], plain["timings"]["draft_n_accepted"]) == (0, 0)
    assert drafted["timings"]["predicted_n"] == plain["timings"]["predicted_n"]
    if "n" not in fields:
        timings = drafted["timings"]
        assert timings["draft_n"] >= timings["draft_n_accepted"] > 8
        assert timings["plain_n"] <= timings["predicted_n"] - timings["draft_n_accepted"]
        assert plain["timings"]["plain_n"] == plain["timings"]["predicted_n"]


def test_what_was_drafted_last_is_not_in_memory(address: Address) -> None:
    """What follows an answer that was cut in the middle of drafted tokens is read rightly."""
    cut = answered(address, TEXT, stop=["GgGh"], speculate=True)["choices"][0]["message"]["content"]
    assert cut == TEXT.partition("GgGh")[0]
    again = answered(address, TEXT)
    assert again["choices"][0]["message"]["content"] == TEXT
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_an_answer_that_repeats_nothing_is_not_drafted(address: Address) -> None:
    answer = answered(address, "hi")
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert answer["timings"]["draft_n"] == 0


@pytest.mark.parametrize(
    ("fields", "is_drafted"),
    [
        ({"temperature": 0.2}, True),
        ({"temperature": 0.2, "seed": 1}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0, "seed": 1, "speculate": True}, True),
        ({"temperature": 0.2, "speculate": False}, False),
    ],
    ids=["sampled", "seeded", "greedy", "asked for", "forbidden"],
)
def test_nothing_is_drafted_for_who_wants_the_same_answer_again(
    address: Address, fields: dict[str, Any], is_drafted: bool
) -> None:
    answer = answered_by_drafts(address, **fields) if is_drafted else answered(address, TEXT, **fields)
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert (answer["timings"]["draft_n"] > 0) is is_drafted


def test_who_leaves_in_the_middle_leaves_an_engine_that_answers(address: Address) -> None:
    for _ in range(3):
        answer = post(address, TEXT, stream=True)
        answer.close()
    assert answered(address, TEXT)["choices"][0]["message"]["content"] == TEXT
