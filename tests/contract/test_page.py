"""docs/contract.md says what the commands print: every key that it names is there, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmctl.cli import main
from llmctl.errors import LlmctlError
from llmctl.router import receipts
from llmctl.types.endpoint import LeaveReason
from llmctl.types.receipt import Outcome, Sent
from tests.fakes.command import document, llmctl
from tests.fakes.encoder import RANK, write_encoder

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text("utf-8")
OPTIONAL = {"doctor": {"timings"}}
Keys = dict[str, Any]
"""A documented key -> the keys below it, of an object or of each in a list; None where the page doesn't go on."""


def documented(name: str) -> Keys:
    """The keys in the block of the page that is called ``name``."""
    (block,) = re.findall(rf"```keys {name}\n(.*?)```", PAGE, re.DOTALL)
    words = iter(re.findall(r"[a-z_0-9]+|[{}]", re.sub(r"\|null|\[\]", "", block)))
    return keys(words)


def keys(words: Iterator[str]) -> Keys:
    read: Keys = {}
    last = ""
    for word in words:
        if word == "}":
            break
        if word == "{":
            read[last] = keys(words)
        else:
            read[last := word] = None
    return read


def check(value: Any, expected: Keys, at: str, optional: set[str]) -> None:
    """Fails unless ``value`` has the ``expected`` keys, and so have the objects below it, as far as there are some."""
    for each in value if isinstance(value, list) else [value]:
        assert isinstance(each, dict), at
        assert set(each) | optional == set(expected) | optional, at
        for key, below in expected.items():
            if below is not None and each.get(key) is not None:
                check(each[key], below, f"{at}.{key}", set())


def printed(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_blocks_are_read() -> None:
    assert documented("envelope")["error"] == {"code": None, "message": None, "hint": None}
    assert documented("doctor")["machine"]["memory"]["swap_bytes"] is None


@pytest.mark.usefixtures("measured")
def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    envelope = printed(capsys, "doctor")
    check(envelope, documented("envelope"), "envelope", set())
    assert envelope["data"]["machine"]["kernels"]["matrices"] and "timings" in envelope["data"]
    check(envelope["data"], documented("doctor"), "doctor", set())


def test_a_described_machine(capsys: pytest.CaptureFixture[str]) -> None:
    data = printed(capsys, "doctor", "--machine", "desktop-rtx-3060")["data"]
    assert data["machine"]["accelerators"] and "timings" not in data
    check(data, documented("doctor"), "doctor", OPTIONAL["doctor"])


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    data = printed(capsys, "plan", "--machine", "desktop-rtx-3060", "--limit", "1")["data"]
    expected = documented("plan")
    assert data["choice"]["quality"]["index"] is not None and data["choice"]["openness"] is not None
    check(data, expected, "plan", set())
    check(data["alternatives"], expected["choice"] | {"openness": None, "quality": None}, "alternatives", set())


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    envelope = printed(capsys, "plan", "--machine", "desktop-rtx-3060", "--max-download", "1MB", code=3)
    check(envelope, documented("envelope"), "envelope", set())
    assert envelope["data"]["choice"] is None and envelope["data"]["no_fit"]
    check(envelope["data"], documented("plan"), "plan", set())


@pytest.mark.usefixtures("measured")
def test_run(starter_file: Path) -> None:
    done = llmctl("run", "-m", str(starter_file), "-n", "4", "--context", "512", "--json", "Hello")
    assert done.returncode == 0, done.stderr
    check(document(done)["data"], documented("run"), "run", set())


def row(command: str) -> set[str]:
    """The keys in the table of other commands."""
    (keys,) = re.findall(rf"^\| `{command}` \| (.*) \|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`([a-z_0-9]+)`", keys))


@pytest.mark.usefixtures("measured")
def test_embed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_encoder(tmp_path / "tiny.gguf"))
    assert set(printed(capsys, "embed", "-m", model, "a")["data"]) == row("embed")
    assert main(["embed", "-m", model, "a"]) == 0
    check(json.loads(capsys.readouterr().out), documented("vector"), "vector", set())


@pytest.mark.usefixtures("measured")
def test_rerank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_encoder(tmp_path / "tiny.gguf", pooling=RANK))
    data = printed(capsys, "rerank", "-m", model, "a", "b")["data"]
    assert set(data) == row("rerank") and data["results"]
    check(data["results"], documented("result"), "result", set())


def test_own_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.md").write_text("Plums are ripe.")
    check(printed(capsys, "index", "add", str(tmp_path / "notes"))["data"], documented("update"), "update", set())
    updated = printed(capsys, "index", "update")["data"]
    assert set(updated) == row("index update")
    check(updated["indexes"], documented("update"), "update", set())
    listed = printed(capsys, "index", "list")["data"]
    assert set(listed) == row("index list")
    check(listed["indexes"], documented("index"), "index", set())
    data = printed(capsys, "search", "notes", "plums")["data"]
    assert set(data) == row("search") and data["results"]
    check(data["results"], documented("hit"), "hit", set())
    assert set(printed(capsys, "index", "remove", "notes")["data"]) == row("index remove")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("models list", []),
        ("models list --all", []),
        ("models search", ["qwen"]),
        ("models prune", []),
        ("models verify", []),
        ("ps", []),
        ("stop", ["--all"]),
        ("endpoint list", []),
        ("receipts", []),
        ("receipts --verify", []),
        ("token add", ["ci"]),
        ("token list", []),
        ("engine list", []),
        ("engine use", ["auto"]),
    ],
)
def test_other_commands(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert set(printed(capsys, *command.split(), *arguments)["data"]) == row(command)


def test_an_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    expected = documented("endpoint")
    added = printed(capsys, "endpoint", "add", "near", "http://127.0.0.1:9", "--model", "m")["data"]
    check(added, expected | {"policy": None}, "endpoint", set())
    assert printed(capsys, "endpoint", "show", "near")["data"] == added
    (listed,) = printed(capsys, "endpoint", "list")["data"]["endpoints"]
    check(listed, expected, "endpoint", set())
    assert set(printed(capsys, "endpoint", "default", "near")["data"]) == {"name", "endpoints", "policy"}


def test_receipts(capsys: pytest.CaptureFixture[str]) -> None:
    reason = LeaveReason.PINNED
    receipts.append(Sent("2026-01-02T03:04:05Z", "office", "h", "m", 9, True, False, reason, Outcome.ANSWERED))
    (receipt,) = printed(capsys, "receipts")["data"]["receipts"]
    check(receipt, documented("receipt"), "receipt", set())


def test_settings(capsys: pytest.CaptureFixture[str]) -> None:
    data = printed(capsys, "config", "list")["data"]
    assert set(data) == row("config list")
    for setting in data["settings"]:
        check(setting, documented("setting"), "setting", set())
    assert set(printed(capsys, "config", "path")["data"]) == row("config path")


def test_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "add", "ci"]) == 0
    capsys.readouterr()
    (token,) = printed(capsys, "token", "list")["data"]["tokens"]
    check(token, documented("token"), "token", set())
    assert set(printed(capsys, "token", "revoke", "ci")["data"]) == row("token revoke")


@pytest.mark.usefixtures("measured")
def test_route(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoint", "add", "near", "http://127.0.0.1:9", "--model", "m"]) == 0
    capsys.readouterr()
    data = printed(capsys, "route", "hi")["data"]
    assert data["answers"]["side"] == "local" and data["fallback"] and data["reasons"]
    check(data, documented("route"), "route", set())


def test_engines(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in printed(capsys, "engine", "list")["data"]["engines"]:
        check(engine, documented("engines"), "engines", set())


def test_the_codes_of_errors() -> None:
    documented: dict[str, set[str]] = {}
    for code, row in re.findall(r"^\| (\d+) \| .+ \|(.*) \|$", PAGE, re.MULTILINE):
        documented[code] = set(re.findall(r"`([a-z_0-9]+)`", row))
    expected: dict[str, set[str]] = {"0": set(), "141": set()}
    expected |= {code: {"interrupted"} for code in ("129", "130", "143")}
    for kind in kinds(LlmctlError):
        expected.setdefault(str(kind.exit_code), set()).add(kind.code)
    assert documented == expected


def kinds(root: type[LlmctlError]) -> Iterator[type[LlmctlError]]:
    yield root
    for below in root.__subclasses__():
        if below.__module__ == LlmctlError.__module__:
            yield from kinds(below)
