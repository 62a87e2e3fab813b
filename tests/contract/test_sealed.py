"""`llmctl serve --sealed` and `llmctl endpoint add --seal-key` as people use them: real commands, a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.workspace import engines, gateways
from tests.fakes.command import document, llmctl, spawn
from tests.fakes.reading_proxy import ReadingProxy
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")
PROMPT = "a prompt for nobody on the way"


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    gateways.stop(gateways.running(), within_s=0.1)
    engines.stop(None)


def test_a_prompt_sealed_for_a_gateway_by_the_line_that_it_prints(tmp_path: Path, home: Path) -> None:
    model = str(write_scripted(tmp_path / "tiny.gguf", ["The", " answer", "."]))
    with spawn("serve", model, "--sealed", "--port", "0", "--context", "512") as process:
        assert process.stdout is not None
        address, line = (process.stdout.readline().decode().strip() for _ in range(2))
        assert line.startswith("llmctl-key:")
        second = llmctl("serve", model, "--sealed", "--port", "0")
        assert second.returncode == 7 and "takes sealed requests already" in second.stderr
        with ReadingProxy(int(address.removesuffix("/v1").rpartition(":")[2])) as proxy:
            added = document(llmctl("endpoint", "add", "desk", proxy.url, "--seal-key", line, "--pad", "512", "--json"))
            assert (added["data"]["seal_key"], added["data"]["seal_pad"]) == (line, 512)
            answered = document(llmctl("run", "-e", "desk", PROMPT, "--json"))["data"]
            assert (answered["text"], answered["route"]["side"]) == ("The answer.", "remote")
            fingerprint = answered["left_machine"]["sealed"]
            for word in (PROMPT, " answer", "/v1/"):
                assert word.encode() not in proxy.log
        (receipt,) = document(llmctl("receipts", "--json"))["data"]["receipts"]
        assert receipt["sealed"] == fingerprint
        assert f"sealed for {fingerprint[7:19]}" in llmctl("receipts").stdout
        assert llmctl("receipts", "--verify").returncode == 0
        assert fingerprint in llmctl("endpoint", "show", "desk").stdout


ADD = ["endpoint", "add", "desk", "http://127.0.0.1:9", "-m", "m"]
WRONG = {
    "no key": ([*ADD, "--seal-key", "llmctl-key:AQ"], "holds no key"),
    "a pad without a key": ([*ADD, "--pad", "9"], "needs --seal-key"),
    "a pad without sealing": (["serve", "--pad", "512"], "needs --sealed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_said(name: str) -> None:
    arguments, words = WRONG[name]
    done = llmctl(*arguments, "--json")
    assert done.returncode == 2
    assert words in json.loads(done.stdout)["error"]["message"]
