"""The page's files, its policy and its models' parts, by real requests; the engine that is vendored, by its hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.gguf.pieces import Piece, Span
from llmctl.gguf.shards import read_model
from llmctl.gguf.split import pieces
from llmctl.server import web
from llmctl.server.app import create_app
from llmctl.server.guards import Guard, guards
from llmctl.server.host_check import allowed_hosts
from llmctl.server.metrics import Metrics
from llmctl.server.web import OneTimeLink, WebPage
from llmctl.types.page_access import PageAccess
from llmctl.workspace import tokens
from llmctl.workspace.tab_models import TabModel
from tests.fakes import guarded
from tests.fakes.gateway import Models
from tests.fakes.scripted_model import write_scripted

KEY = tokens.new_token()
ASSETS = ("", "app.js", "offline.js", "style.css", "wllama/wllama.wasm")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Piece, ...]:
    """A file of ten bytes, of which two are made up."""
    file = tmp_path_factory.mktemp("parts") / "file"
    file.write_bytes(b"__23456789__")
    return (Piece(b"01", (Span(file, 2, 3), Span(file, 5, 5))),)


@pytest.fixture(scope="module")
def page(parts: tuple[Piece, ...]) -> WebPage:
    models = [TabModel("one", {"licence": "MIT"}, parts), TabModel("two", {}, parts)]
    return WebPage(PageAccess.LINK, lambda: models, OneTimeLink(KEY))


@pytest.fixture(scope="module")
def port(page: WebPage) -> Iterator[int]:
    nothing = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    guard = Guard(allowed_hosts("127.0.0.1"), tokens.KnownTokens(KEY).of, True, nothing, page=page)
    app = create_app(Models(), middleware=guards(guard, Metrics()), routes=web.routes(page))
    with guarded.listening(app) as port:
        yield port


def get(port: int, path: str, key: str | None = KEY, **headers: str) -> requests.Response:
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10, allow_redirects=False)


@pytest.mark.parametrize("name", ASSETS)
def test_its_files_are_for_everybody_and_have_the_policy(port: int, name: str) -> None:
    answer = get(port, f"/web/{name}", None)
    assert answer.status_code == 200 and answer.content == web.static_files()[name].read_bytes()
    assert {key: answer.headers[key] for key in web.HEADERS} == web.HEADERS
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/web/models.json", "/web/models/0/0.gguf", "/v1/models", "/metrics", "/web/../v1/models"]
)
def test_all_else_needs_a_key(port: int, path: str) -> None:
    assert get(port, path, None).status_code == 401


def test_the_page_is_found_from_the_root(port: int) -> None:
    assert [
        (get(port, path, None).status_code, get(port, path, None).headers["location"]) for path in ("/", "/web")
    ] == [(307, "/web/")] * 2


def test_another_page_or_host_gets_nothing(port: int) -> None:
    assert get(port, "/web/", None, Host="rebound.example").status_code == 421
    assert get(port, "/web/page.json", None, Origin="https://elsewhere.example").status_code == 403


def test_a_link_opens_once(port: int, page: WebPage) -> None:
    assert page.link is not None
    session = f"http://127.0.0.1:{port}/web/session"
    secrets = ("", "wrong", "x" * 1000, "ü", page.link.secret)
    answers = [requests.post(session, data=secret.encode(), timeout=10) for secret in secrets]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 403, 200]
    assert answers[-1].json() == {"key": KEY}
    again = requests.post(session, data=page.link.secret, timeout=10)
    assert (again.status_code, again.json()["error"]["code"]) == (403, "link_refused")


def test_a_token_sees_its_own_models(port: int, home: Path) -> None:
    _, token = tokens.add("some", models=["two"])
    assert [model["name"] for model in get(port, "/web/models.json").json()["models"]] == ["one", "two"]
    (model,) = get(port, "/web/models.json", token).json()["models"]
    assert model == {"name": "two", "parts": [{"path": "models/1/0.gguf", "bytes": 10}]}
    assert [get(port, f"/web/models/{number}/0.gguf", token).status_code for number in (0, 1)] == [404, 200]


@pytest.mark.parametrize(
    ("asked", "status", "body", "described"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=1-1", 206, b"1", "bytes 1-1/10"),
        ("bytes=3-7", 206, b"34567", "bytes 3-7/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=5-99999999999999999999", 200, b"0123456789", None),
        ("bytes=5-1000", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-12", 416, b"", "bytes */10"),
        ("bytes=7-6", 416, b"", "bytes */10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=-2", 200, b"0123456789", None),
    ],
)
def test_ranges(port: int, asked: str | None, status: int, body: bytes, described: str | None) -> None:
    answer = get(port, "/web/models/0/0.gguf", **({} if asked is None else {"range": asked}))
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, described)


def test_no_such_part(port: int) -> None:
    assert [get(port, f"/web/models/{path}.gguf").status_code for path in ("0/1", "2/0", "x/0")] == [404] * 3


def test_the_policy_names_no_other_host() -> None:
    sources = {word for directive in web.POLICY.split(";") for word in directive.split()[1:]}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'", "blob:", "data:"}


def test_own_files_name_no_other_host() -> None:
    own = [path for name, path in web.static_files().items() if not name.startswith("wllama/")]
    addresses = {found for path in own for found in re.findall(r"https?://[\w.]+", path.read_text())}
    assert addresses == {"http://www.w3.org"}  # the name of SVG
    assert sum(path.stat().st_size for path in set(own)) < 80_000


def test_the_page_keeps_all_its_files_for_offline_use() -> None:
    listed = re.search(r"const FILES = \[(.*?)\];", (web.FOLDER / "offline.js").read_text(), re.DOTALL)
    assert listed is not None
    kept = set(re.findall(r"'([^']+)'", listed[1]))
    wanted = {name for name in web.static_files() if name not in ("", "index.html", "offline.js")}
    assert kept == {"./", web.SITE, web.MODELS, *(name for name in wanted if Path(name).suffix in web.LOADED)}


def test_the_engine_for_the_tab_is_the_published_one() -> None:
    folder = web.FOLDER / "wllama"
    vendored = json.loads((folder / "vendored.json").read_text())
    assert (vendored["name"], vendored["licence"]) == ("@wllama/wllama", "MIT")
    assert "MIT License" in (folder / "LICENCE").read_text()
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["vendored.json"], found["LICENCE.llama.cpp"]  # what it is made of
    assert found == vendored["sha256"]


def test_a_file_is_split_into_sound_parts(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "whole-F32.gguf", ["The", " answer"])
    assert pieces(file, 1 << 30) == (Piece(b"", (Span(file, 0, file.stat().st_size),)),)
    parted = pieces(file, 400_000)
    assert len(parted) > 2
    for number, piece in enumerate(parted, 1):
        named = tmp_path / f"parted-{number:05}-of-{len(parted):05}.gguf"
        named.write_bytes(b"".join(piece.read(0, piece.size_bytes)))
        assert named.stat().st_size == piece.size_bytes < 500_000
    (_, whole), (files, joined) = (
        read_model(file, whole=True),
        read_model(tmp_path / f"parted-00001-of-{len(parted):05}.gguf", whole=True),
    )
    assert len(files) == len(parted)
    assert [(t.name, t.shape, t.type) for t in joined.tensors] == [(t.name, t.shape, t.type) for t in whole.tensors]
    kept = {name: value for name, value in joined.metadata.items() if not name.startswith("split.")}
    assert kept == whole.metadata and joined.array_lengths == whole.array_lengths
