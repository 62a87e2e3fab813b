"""What the hub says of a repository, and what is made of its word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import net, settings
from llmctl.errors import AccessError, IntegrityError, LlmctlError, NetworkError, NotFoundError, OfflineError
from llmctl.hub import listing as hub_listing
from llmctl.hub.listing import Listing, listing
from llmctl.hub.quantizations import choose, offers
from llmctl.settings import Settings
from llmctl.store import Store
from llmctl.types.model import Source, SourceKind
from llmctl.workspace.fetcher import Fetcher
from tests.fakes.gguf_file import Fill, Kind, TensorSpec, Value, write
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
SECRET = "hf_madeUpForThisTest"


def asked(repo: str = REPO, revision: str = "main") -> Listing:
    return listing(repo, revision, settings.load())


def quiet(done_bytes: int, total_bytes: int | None) -> None:
    """Nobody looks."""


def test_files_are_pinned_to_the_commit(hub: FakeHub) -> None:
    hub.licences[REPO] = "apache-2.0"
    told = asked()
    assert (told.commit, told.licence) == (COMMIT, "apache-2.0")
    size, sha256 = hub.size(REPO, FILE), hub.sha256(REPO, FILE)
    assert Source(SourceKind.HUB, REPO, FILE, size, sha256, COMMIT) in told.files


REFUSALS = {
    "a repository that is not there": ("maker/tiny", {}, NotFoundError, ["no maker/tiny", f"there is {REPO}"]),
    "no token": (REPO, {"hub_status": 401, "times": 1}, AccessError, ["HF_TOKEN"]),
    "gated": (REPO, {"hub_status": 403, "error_code": "GatedRepo"}, AccessError, ["licence", f"/{REPO}"]),
    "wait": (REPO, {"hub_status": 429, "retry_after": "3600"}, NetworkError, ["429", "wait 3600 s"]),
    "broken": (REPO, {"hub_status": 500}, NetworkError, ["HUB", "500"]),
}


@pytest.mark.parametrize(("repo", "switches", "kind", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(
    repo: str, switches: dict[str, object], kind: type[LlmctlError], words: list[str], hub: FakeHub
) -> None:
    hub.switch(**switches)
    with pytest.raises(kind) as caught:
        asked(repo)
    told = f"{caught.value.message} {caught.value.hint}"
    for word in words:
        assert word.replace("HUB", net.host_of(hub.url)) in told


def test_a_private_repository_may_be_a_name_that_was_written_wrongly(hub: FakeHub) -> None:
    """Without a token the hub says 401 of both."""
    hub.switch(hub_status=401, times=1)
    with pytest.raises(AccessError, match=f"there is {REPO}"):
        asked("maker/tinny-GGUF")


def test_a_revision_that_is_not_there(hub: FakeHub) -> None:
    with pytest.raises(NotFoundError, match="no revision v9"):
        asked(REPO, "v9")


def test_offline_asks_nothing(hub: FakeHub) -> None:
    with pytest.raises(OfflineError):
        listing(REPO, "main", replace(settings.load(), offline=True))
    assert hub.requests == []


@pytest.mark.parametrize(("repo", "revision"), [("a/../b", "main"), ("maker/tiny-GGUF", "../../x"), ("C:/x", "main")])
def test_names_that_lead_out_are_not_asked_for(repo: str, revision: str, hub: FakeHub) -> None:
    with pytest.raises(IntegrityError):
        asked(repo, revision)
    assert hub.requests == []


def listed(answer: object, monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> Listing:
    handler = hub._hub.RequestHandlerClass
    monkeypatch.setattr(handler, "_as_api", lambda self, hub, path: self._json(answer))
    return asked()


GOOD = {"rfilename": FILE, "size": 12, "lfs": {"sha256": "a" * 64, "size": 12}}
ANSWERS = {
    "a list": [],
    "text": "hello",
    "no commit": {"siblings": [GOOD]},
    "a commit that leads out": {"sha": "../../../../x", "siblings": [GOOD]},
    "a commit of the wrong kind": {"sha": 7},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_what_no_hub_answers(answer: object, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match="not as a model hub does"):
        listed(answer, monkeypatch, hub)


SIBLINGS: dict[str, object] = {
    "none": None,
    "of the wrong kind": ["x", 7, None, {}, {"rfilename": 7}],
    "names that lead out": [{**GOOD, "rfilename": name} for name in ("../x.gguf", "/x.gguf", "C:x.gguf", "a\\b.gguf")],
    "names of devices": [{**GOOD, "rfilename": "NUL.gguf"}],
}


@pytest.mark.parametrize("siblings", SIBLINGS.values(), ids=SIBLINGS.keys())
def test_files_that_cannot_be_stored_are_passed_over(
    siblings: object, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed({"sha": COMMIT, "siblings": siblings}, monkeypatch, hub).files == ()


@pytest.mark.parametrize(
    "file",
    [
        {**GOOD, "size": "large", "lfs": None},
        {**GOOD, "size": -1, "lfs": {"sha256": "xyz"}},
        {**GOOD, "size": 1 << 60, "lfs": {"sha256": 7, "size": 1 << 60}},
    ],
)
def test_what_makes_no_sense_counts_as_unknown(
    file: dict[str, object], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = listed({"sha": COMMIT, "siblings": [file], "cardData": ["x"]}, monkeypatch, hub).files
    assert (one.bytes, one.sha256) == (None, None)


def test_an_answer_that_never_ends(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_listing, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(NetworkError, match="sends more than 1,000 bytes"):
        listed({"sha": COMMIT, "siblings": [GOOD] * 100}, monkeypatch, hub)


def test_the_token_goes_to_the_hub_alone_also_behind_a_mirror(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_ENDPOINT is a mirror that sends everybody on: to the hub for what it says, to a signed address for files."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with FakeHub({}) as mirror:
        mirror.switch(redirect=hub.url)
        loaded: Settings = replace(settings.load(), hub_url=mirror.url)
        offer = choose(offers(listing(REPO, "main", loaded).files), "Q4_0", REPO)
        Fetcher(Store(), loaded).add_offer(offer, "main", quiet)
        sent = [one.headers.get("Authorization") for one in mirror.requests]
        assert sent == [f"Bearer {SECRET}"] * len(mirror.requests)
        assert len(sent) >= 2
    assert hub.count("cdn", "GET") >= 1
    assert [one.headers.get("Authorization") for one in hub.requests] == [None] * len(hub.requests)


def test_the_token_goes_to_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.switch(need_token=SECRET)
    assert asked().commit == COMMIT


def test_a_file_that_is_gone_is_told_with_what_the_repository_has(
    hub: FakeHub, add: Callable[..., Path], source: Source
) -> None:
    with pytest.raises(NotFoundError, match=f"has no tiny-Q4_1.gguf .*; there is {REPO}:Q4_0") as caught:
        add(replace(source, file="tiny-Q4_1.gguf"))
    assert caught.value.hint == f"llmctl pull {REPO}:Q4_0"


def test_a_model_with_its_parts_and_projector(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    names = ["q/t-Q8_0-00001-of-00002.gguf", "q/t-Q8_0-00002-of-00002.gguf", "mmproj-F16.gguf"]
    tensors = [TensorSpec("w", (256, 1000), "F32")]
    metadata: list[dict[str, Value]] = [  # as llama-gguf-split writes it: the first part only has the model's
        {"general.architecture": "llama", "split.no": Kind(2, "H", 0), "split.count": Kind(2, "H", 2)},
        {"split.no": Kind(2, "H", 1), "split.count": Kind(2, "H", 2)},
        {"general.architecture": "clip"},
    ]
    files = {name: write(tmp_path / f"{at}", metadata[at], tensors, fill=Fill.RANDOM) for at, name in enumerate(names)}
    hub.repos[REPO] = {**files}
    loaded = settings.load()
    offer = choose(offers(asked().files), None, REPO)
    seen: list[tuple[int, int | None]] = []
    paths = Fetcher(Store(), loaded).add_offer(offer, "main", lambda done, total: seen.append((done, total)))
    snapshot = home / f"cache/huggingface/hub/models--maker--tiny-GGUF/snapshots/{COMMIT}"
    assert paths == [snapshot / name for name in names]
    size = sum(file.stat().st_size for file in files.values())
    assert seen == sorted(seen) and seen[-1] == (size, size)
    assert (snapshot.parents[1] / "refs/main").read_text() == COMMIT
    asked_before = len(hub.requests)
    assert Fetcher(Store(), replace(loaded, offline=True)).add_offer(offer, "main", quiet) == paths
    assert len(hub.requests) == asked_before


def test_a_mirror_that_lists_nothing(hub: FakeHub) -> None:
    hub.switch(hub_status=404)
    with pytest.raises(NotFoundError, match="has no list of files") as caught:
        listing(REPO, "main", settings.load())
    assert "no the list" not in caught.value.message
