"""`llmctl web` and `serve --web` as a person starts them: real gateways, and a stand-in for the browser."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from llmctl.workspace import engines, gateways
from tests.contract.test_page import row
from tests.fakes.command import document, llmctl, spawn
from tests.fakes.preloaded import Forked
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_scripted(tmp_path_factory.mktemp("web") / "tiny-F32.gguf", ["The", " answer"]))


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    gateways.stop(gateways.running(), within_s=0.1)
    engines.stop(None)


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[tuple[Forked, dict[str, Any]]]:
    with spawn(*arguments, "--port", "0", "--json", **environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield process, json.loads(line)["data"]


def test_a_browser_is_opened_without_the_link_in_its_arguments(model: str, home: Path, tmp_path: Path) -> None:
    seen, program = tmp_path / "seen", tmp_path / "browser"
    program.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {seen}.new\ncp "${{1#file://}}" {seen}.page\nmv {seen}.new {seen}\n'
    )
    program.chmod(0o755)
    with started("web", model, BROWSER=str(program), DISPLAY=":77") as (process, about):
        assert set(about) == row("serve")
        page = urlsplit(about["page"])
        assert (page.path, about["token_required"], about["token"]) == ("/web/", True, None)
        while not seen.exists():
            assert process.poll() is None
            time.sleep(0.01)
        file = Path(seen.read_text().removeprefix("file://"))
        assert page.fragment not in seen.read_text() and about["page"] in Path(f"{seen}.page").read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        base = about["page"].partition("#")[0]
        key = requests.post(f"{base}session", data=page.fragment, timeout=20).json()["key"]
        bearer = {"authorization": f"Bearer {key}"}
        (listed,) = requests.get(f"{base}models.json", headers=bearer, timeout=60).json()["models"]
        assert (listed["name"], listed["why_not"]) == ("tiny-F32", None) and listed["tok_s"] > 0
        assert listed["size_bytes"] == Path(model).stat().st_size < listed["memory_bytes"]
        part = requests.get(base + listed["parts"][0]["path"], headers=bearer, timeout=20)
        assert part.content == Path(model).read_bytes()
        asked = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        answer = requests.post(f"{about['address']}/chat/completions", json=asked, headers=bearer, timeout=60)
        assert answer.json()["choices"][0]["message"]["content"] == "The answer"
        assert llmctl("stop", "serve").returncode == 0 and process.wait(timeout=30) == 0
    assert not file.exists()


def test_a_gateway_offers_its_page_behind_tokens(model: str) -> None:
    with started("serve", model, "--web", "--require-token") as (_, about):
        base = about["page"]
        assert base == about["address"].removesuffix("/v1") + "/web/"
        assert requests.get(f"{base}page.json", timeout=20).json()["access"] == "token"
        assert requests.get(f"{base}models.json", timeout=20).status_code == 401
        bearer = {"authorization": f"Bearer {about['token']}"}
        assert requests.get(f"{base}models.json", headers=bearer, timeout=60).status_code == 200
        assert requests.post(f"{base}session", data="x", timeout=20).status_code == 403
    with started("serve", model) as (_, about):
        assert about["page"] is None
        assert requests.get(about["address"].removesuffix("v1") + "web/", timeout=20).status_code == 404


def test_export(model: str, home: Path) -> None:
    said = document(llmctl("web", "--export", "site", model, "--json"))["data"]
    assert set(said) == row("web --export") and said["model"] == "tiny-F32"
    assert (home / "site" / "models" / "0" / "0.gguf").read_bytes() == Path(model).read_bytes()
    page = (home / "site" / "index.html").read_text()
    assert page.count("Content-Security-Policy") == 1 and "default-src 'none'" in page
    again = llmctl("web", "--export", "site", model)
    assert again.returncode == 2 and "site is there and not empty" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("web", "--export", "site", "a", "b"), 2, "--export takes one model, not 2"),
        (("web", "--export", "site", "no-such-model"), 4, "no-such-model"),
        (("web", ""), 2, "MODEL was given an empty name"),
        (("plan", "--browser", "--gpu", "none"), 2, "--browser and --gpu exclude each other"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], code: int, says: str) -> None:
    done = llmctl(*arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


def test_a_plan_for_a_tab(model: str) -> None:
    here, tab = (document(llmctl("plan", model, "--json", *more))["data"] for more in ((), ("--browser",)))
    assert here["browser"] is None and tab["browser"]["memory_bytes"] == 1 << 32
    assert tab["choice"]["speed"]["decode_tok_s"] < 0.5 * here["choice"]["speed"]["decode_tok_s"]
    assert tab["choice"]["path"] == model
