"""What the hub and its file host can answer, and what becomes of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import net, settings
from llmctl.errors import (
    AccessError,
    ConfigError,
    IntegrityError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    OfflineError,
    ResourceError,
)
from llmctl.hub.files import unreachable
from llmctl.store import Store
from llmctl.types.model import Source, SourceKind
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
FOLDER = "cache/huggingface/hub/models--maker--tiny-GGUF"
Add = Callable[..., Path]
Stored = Callable[[], list[str]]


def test_a_file_lies_where_the_hubs_own_tools_look_for_it(
    hub: FakeHub, add: Add, source: Source, stored: Stored, home: Path, model_file: Path
) -> None:
    path = add(source)
    sha256 = hub.sha256(REPO, FILE)
    assert path == home / FOLDER / "snapshots" / COMMIT / FILE
    assert stored() == [f"{FOLDER}/blobs/{sha256}", f"{FOLDER}/refs/main", f"{FOLDER}/snapshots/{COMMIT}/{FILE}"]
    assert os.readlink(path) == f"../../blobs/{sha256}"
    assert (home / FOLDER / "refs/main").read_text() == COMMIT
    assert path.read_bytes() == model_file.read_bytes()
    assert [(one.side, one.method) for one in hub.requests] == [("hub", "HEAD"), ("hub", "GET"), ("cdn", "GET")]


def test_what_is_here_needs_no_network(hub: FakeHub, add: Add, source: Source) -> None:
    path = add(source)
    asked = len(hub.requests)
    assert add(source, offline=True) == path
    assert Store().find(source) == path
    assert len(hub.requests) == asked


def test_progress_ends_with_the_whole(hub: FakeHub, add: Add, source: Source) -> None:
    seen: list[tuple[int, int | None]] = []
    add(source, progress=lambda done, total: seen.append((done, total)))
    size = hub.size(REPO, FILE)
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


REFUSALS = {
    "no token": ({"hub_status": 401}, AccessError, ["private", "HF_TOKEN"]),
    "gated": ({"hub_status": 403, "error_code": "GatedRepo"}, AccessError, ["licence", f"/{REPO}"]),
    "gated, in words": ({"hub_status": 403, "error_message": "Access restricted"}, AccessError, ["licence"]),
    "a proxy's own page": ({"hub_status": 403}, NetworkError, ["403", "proxy", "HF_ENDPOINT"]),
    "gated without a token": ({"hub_status": 401, "error_code": "GatedRepo"}, AccessError, ["licence", f"/{REPO}"]),
    "no such repository": ({"hub_status": 404, "error_code": "RepoNotFound"}, NotFoundError, [f"no {REPO}"]),
    "no such revision": ({"hub_status": 404, "error_code": "RevisionNotFound"}, NotFoundError, ["no revision main"]),
    "no such file": ({"hub_status": 404, "error_code": "EntryNotFound"}, NotFoundError, [f"no {FILE}"]),
    "wait an hour": ({"hub_status": 429, "retry_after": "3600"}, NetworkError, ["429", "wait 3600 s"]),
    "wait, for ever": ({"hub_status": 429, "retry_after": "0"}, NetworkError, ["429", "wait 0 s"]),
    "hub broken": ({"hub_status": 500}, NetworkError, ["500"]),
    "file host broken": ({"cdn_status": 503}, NetworkError, ["CDN", "503"]),
    "file host refuses": ({"cdn_status": 403}, NetworkError, ["CDN", "403", "sends files from"]),
    "teapot": ({"hub_status": 418}, NetworkError, ["418"]),
    "no content": ({"cdn_status": 204}, NetworkError, ["CDN", "204"]),
    "not a hub": ({"commit": False, "lfs_headers": False}, NetworkError, ["X-Repo-Commit"]),
    "no sha256": ({"lfs_headers": False}, IntegrityError, ["sha256"]),
    "one wrong byte": ({"wrong_byte_at": 2_000_000}, IntegrityError, ["sha256"]),
    "hub states another size": ({"linked_bytes": 999}, IntegrityError, ["CDN", "999"]),
    "more than promised": ({"extra_bytes": 1}, IntegrityError, ["CDN", "more than"]),
    "compressed": ({"encoding": "gzip"}, NetworkError, ["CDN", "gzip"]),
    "larger than any disk": ({"linked_bytes": 1 << 42}, ResourceError, ["needs 4.4 TB, ", " is free"]),
    "larger than any model": ({"linked_bytes": 1 << 60}, IntegrityError, [f"{1 << 60:,} bytes"]),
    "redirects to itself": ({"redirect": "HUB"}, NetworkError, ["circles"]),
    "redirects to a file": ({"redirect": "file:///etc"}, NetworkError, ["safely"]),
    "redirects to nonsense": ({"redirect": "http://[nonsense"}, NetworkError, ["safely"]),
}


@pytest.mark.parametrize(("switches", "kind", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(
    switches: dict[str, object],
    kind: type[LlmctlError],
    words: list[str],
    hub: FakeHub,
    add: Add,
    source: Source,
    stored: Stored,
) -> None:
    if switches.get("redirect") == "HUB":
        switches = {"redirect": hub.url}
    hub.switch(**switches)
    with pytest.raises(kind) as caught:
        add(source)
    told = f"{caught.value.message} {caught.value.hint}"
    for word in words:
        assert word.replace("CDN", net.host_of(hub.cdn_url)) in told
    assert "signature" not in told  # of the address that the hub made
    assert stored() == []


def test_nothing_is_sent_for_when_there_is_no_room(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(linked_bytes=1 << 42)
    with pytest.raises(ResourceError):
        add(source)
    assert hub.count("cdn") == 0


def test_a_file_in_a_folder_of_its_repository(hub: FakeHub, add: Add, source: Source, model_file: Path) -> None:
    hub.repos = {REPO: {"Q4 0/tiny#1.gguf": model_file}}
    path = add(replace(source, file="Q4 0/tiny#1.gguf"))
    assert path.parent.name == "Q4 0"
    assert path.read_bytes() == model_file.read_bytes()
    assert Store().find(replace(source, file="Q4 0/tiny#1.gguf")) == path


def test_a_file_that_is_no_model_is_refused_after_the_hash(hub: FakeHub, add: Add, stored: Stored) -> None:
    with pytest.raises(IntegrityError, match=r"^notes\.gguf "):
        add(Source(SourceKind.HUB, REPO, "notes.gguf"))
    assert stored() == []


def test_an_unreachable_hub(add: Add, source: Source, stored: Stored) -> None:
    with socket.socket() as bound:  # a port that nobody listens on
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(NetworkError, match=address):
            add(source, hub_url=f"http://{address}")
        told = unreachable(replace(settings.load(), hub_url=f"http://{address}"))
    assert told is not None
    assert address in told.message
    assert stored() == []


def test_reachable(hub: FakeHub) -> None:
    assert unreachable(settings.load()) is None
    hub.switch(hub_status=502)
    told = unreachable(settings.load())
    assert told is not None
    assert "502" in told.message
    hub.switch(hub_status=403)  # by a filter on the way
    told = unreachable(settings.load())
    assert told is not None
    assert "403" in told.message and "HF_ENDPOINT" in (told.hint or "")
    hub.switch(hub_status=403, error_code="GatedRepo")
    assert unreachable(settings.load()) is None
    offline = unreachable(replace(settings.load(), offline=True))
    assert isinstance(offline, OfflineError)


def test_a_hub_that_does_not_answer_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.hub.files.REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        told = unreachable(replace(settings.load(), hub_url=url))
    assert told is not None
    assert "did not answer" in told.message


def test_offline_and_not_here(hub: FakeHub, add: Add, source: Source) -> None:
    with pytest.raises(OfflineError):
        add(source, offline=True)
    assert hub.requests == []


def test_a_mirror_that_only_redirects_to_the_hub(hub: FakeHub, add: Add, source: Source) -> None:
    with FakeHub({}) as mirror:
        mirror.switch(redirect=hub.url)
        assert add(source, hub_url=mirror.url).is_file()


@pytest.mark.parametrize("place", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "home"])
def test_the_token_goes_to_the_hub_and_nowhere_else(
    place: str, hub: FakeHub, add: Add, source: Source, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hf_madeUpForThisTest"
    file = home / "elsewhere" / "token"
    match place:
        case "HF_TOKEN":
            monkeypatch.setenv("HF_TOKEN", f" {secret}\n")
        case "HF_TOKEN_PATH":
            monkeypatch.setenv("HF_TOKEN_PATH", str(file))
        case "HF_HOME":
            monkeypatch.setenv("HF_HOME", str(file.parent))
        case _:
            file = home / "cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    file.write_text(secret + "\n")
    hub.switch(need_token=secret)
    add(source)
    sent = {one.side: one.headers.get("Authorization") for one in hub.requests}
    assert sent == {"hub": f"Bearer {secret}", "cdn": None}


def test_the_token_does_not_follow_a_redirect_to_another_host_and_back(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_madeUpForThisTest")
    with FakeHub({}) as other:
        hub.switch(redirect=other.url)
        other.switch(redirect=hub.url)
        with pytest.raises(NetworkError, match="circles"):
            add(source)
        assert "Authorization" in hub.requests[0].headers
        later = [*hub.requests[1:], *other.requests]
        assert len(later) > 2
        assert not any("Authorization" in one.headers for one in later)


def test_the_token_stays_out_of_errors(hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_madeUpForThisTest")
    hub.switch(hub_status=401)
    with pytest.raises(AccessError, match="token from HF_TOKEN") as caught:
        add(source)
    assert "madeUp" not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


def test_the_token_does_not_travel_unencrypted(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_madeUpForThisTest")
    monkeypatch.setenv("HTTP_PROXY", hub.url)  # so that the hub answers for a host that isn't loopback
    assert add(source, hub_url="http://hub.example").is_file()
    assert hub.requests[0].path.startswith("http://hub.example/")
    assert not any("Authorization" in one.headers for one in hub.requests)


def test_a_token_that_cannot_be_one(add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "two words")
    with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
        add(source)
    assert "two words" not in caught.value.message


OTHER = "0" * 64


def test_what_the_catalogue_pins_must_be_what_the_hub_has(
    hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    sha256, size = hub.sha256(REPO, FILE), hub.size(REPO, FILE)
    with pytest.raises(IntegrityError, match=f"{sha256[:16]}.*{OTHER[:16]}"):
        add(replace(source, sha256=OTHER))
    with pytest.raises(IntegrityError, match=f"{size:,}.*12,345"):
        add(replace(source, sha256=sha256, bytes=12345))
    assert stored() == []
    assert hub.count("hub", "GET") == 0
    assert add(replace(source, sha256=sha256, bytes=size)).is_file()


def test_a_size_alone_gives_way_to_the_hubs(hub: FakeHub, add: Add, source: Source) -> None:
    rough = replace(source, bytes=12345)
    path = add(rough)
    assert path.stat().st_size == hub.size(REPO, FILE)
    assert Store().find(rough) == path  # and it isn't fetched anew each time


def test_the_catalogues_sha256_serves_where_the_hub_has_none(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(lfs_headers=False)
    assert add(replace(source, sha256=hub.sha256(REPO, FILE))).is_file()


@pytest.mark.parametrize(
    "wrong",
    [
        {"file": "../../../../.bashrc"},
        {"file": "/etc/passwd"},
        {"file": "..\\..\\evil.gguf"},
        {"file": "C:evil.gguf"},
        {"repo": "../.."},
        {"repo": "a/b/c"},
        {"revision": "../../../x"},
    ],
)
def test_names_that_lead_out_are_refused_before_anything_is_asked(
    wrong: dict[str, str], hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    with pytest.raises(IntegrityError, match=r"can't be a file name|must be org/name"):
        add(replace(source, **wrong))
    assert hub.requests == []
    assert stored() == []


def test_a_store_that_cannot_be_written(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    (home / "cache").write_text("a file where a folder should be")
    with pytest.raises(ResourceError):
        add(source)
