"""Headers of files on the hub: what travels, what is kept, and what a server can do about it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import net, paths, settings
from llmctl.errors import AccessError, IntegrityError, LlmctlError, NetworkError, NotFoundError, OfflineError
from llmctl.gguf.header import read_file
from llmctl.hub import header_cache, headers
from llmctl.hub.headers import PART_RANGE_BYTES, RANGE_BYTES
from llmctl.types.header import Header
from llmctl.types.model import Source, SourceKind
from tests.fakes.gguf_file import (
    Fill,
    Kind,
    TensorSpec,
    Value,
    header,
    llama_metadata,
    llama_tensors,
    model_shape,
    write,
)
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/large-GGUF", "large-Q4_0.gguf"
WHOLE_BYTES = 40 << 20
SECRET = "hf_madeUpForThisTest"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A header of some 2.4 MiB before 40 MiB of weights."""
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "tokenizer.ggml.tokens": [f"token number {number}" for number in range(90_000)],
        "tokenizer.ggml.scores": [0.5] * 90_000,
    }
    tensors = [TensorSpec("token_embd.weight", (256, WHOLE_BYTES // 1024), "F32")]
    return write(tmp_path_factory.mktemp("large") / FILE, metadata, tensors, fill=Fill.SPARSE)


@pytest.fixture
def source(hub: FakeHub, large: Path) -> Source:
    hub.repos = {**hub.repos, REPO: {FILE: large}}
    hub._sha256[REPO, FILE] = "5" * 64  # not hashed in every test
    return Source(SourceKind.HUB, REPO, FILE, large.stat().st_size, "5" * 64, COMMIT)


def read(*parts: Source, **changed: object) -> Header:
    return headers.read(parts, replace(settings.load(), **changed))


def held(source: Source) -> Path | None:
    return headers.cached(source, settings.load())


def ranges(hub: FakeHub, side: str = "cdn") -> list[str | None]:
    return [one.headers.get("Range") for one in hub.requests if one.side == side]


def test_only_the_header_travels_rounded_up_to_the_next_range(hub: FakeHub, source: Source, large: Path) -> None:
    found = read(source)
    assert found == read_file(large)
    asked = -(-found.data_offset // RANGE_BYTES)
    assert asked == 3
    assert ranges(hub) == [f"bytes={n * RANGE_BYTES}-{(n + 1) * RANGE_BYTES - 1}" for n in range(asked)]
    assert hub.sent_bytes <= asked * RANGE_BYTES
    assert hub.count("hub") == 1  # the address that it sends to is good for all ranges


def test_what_was_read_is_kept_as_it_came(hub: FakeHub, source: Source, large: Path) -> None:
    assert held(source) is None
    found = read(source)
    asked = len(hub.requests)
    assert read(source, offline=True) == found
    assert len(hub.requests) == asked
    file = held(source)
    assert file is not None and file.is_relative_to(paths.cache_dir())
    assert file.read_bytes() == large.read_bytes()[: found.data_offset]
    assert read_file(file, whole=False) == found
    assert file.stat().st_mode & 0o077 == 0  # of a repository that not everybody may see


def test_a_revision_that_leaves_the_file_alone_costs_nothing(hub: FakeHub, source: Source) -> None:
    read(source)
    asked = len(hub.requests)
    read(replace(source, revision="f" * 40))
    assert len(hub.requests) == asked
    assert held(replace(source, sha256="6" * 64)) is None


def test_another_place_that_states_the_same_sha256_says_nothing_of_this_one(
    hub: FakeHub, source: Source, large: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / FILE, {"general.architecture": "llama", "general.name": "another"}, [], fill=Fill.SPARSE)
    hub.repos = {**hub.repos, "other/claims-GGUF": {FILE: other, "again.gguf": other}}
    for repo, file in (("other/claims-GGUF", FILE), ("other/claims-GGUF", "again.gguf")):
        hub._sha256[repo, file] = source.sha256 or ""
        claimed = replace(source, repo=repo, file=file, bytes=None)
        assert read(claimed).metadata["general.name"] == "another"
        assert held(source) is None
    assert read(source) == read_file(large)
    with FakeHub(hub.repos) as mirror:
        assert headers.cached(source, replace(settings.load(), hub_url=mirror.url)) is None


def test_without_a_sha256_the_commit_counts(hub: FakeHub, source: Source) -> None:
    unstated = replace(source, sha256=None)
    read(unstated)
    assert held(unstated) is not None
    assert held(replace(unstated, revision="f" * 40)) is None


@pytest.mark.parametrize("damage", [b"", b"GGUF", b"\0" * 5000])
def test_a_kept_header_that_is_damaged_is_fetched_again(damage: bytes, hub: FakeHub, source: Source) -> None:
    found = read(source)
    file = held(source)
    assert file is not None
    file.write_bytes(damage)
    assert read(source) == found
    assert read_file(file, whole=False) == found


def test_nothing_is_asked_for_offline(hub: FakeHub, source: Source) -> None:
    with pytest.raises(OfflineError, match=f"header of {REPO}/{FILE} is not on this machine") as caught:
        read(source, offline=True)
    assert caught.value.hint
    assert hub.requests == []


def test_a_folder_that_cannot_be_written_keeps_nothing(hub: FakeHub, source: Source, large: Path) -> None:
    place = paths.cache_dir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file where the folder should be")
    assert read(source) == read_file(large)
    assert held(source) is None


def test_what_was_used_least_lately_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_cache, "MOST_BYTES", 2500)
    for name in ("one", "two"):
        header_cache.write(name, bytes(1000))
    for at_s, name in enumerate(("one", "two")):
        os.utime(header_cache.path_of(name), (at_s, 77))
    header_cache.mark_used(header_cache.path_of("one"))
    assert header_cache.path_of("one").stat().st_mtime == 77  # the engine's dry run knows a file by it
    header_cache.write("three", bytes(1000))
    assert sorted(file.name for file in header_cache.path_of("x").parent.iterdir()) == ["one", "three"]
    header_cache.write("more than all", bytes(9000))
    assert [file.name for file in header_cache.path_of("x").parent.iterdir()] == ["more than all"]


@pytest.mark.parametrize("lengths", [True, False])
def test_a_server_without_ranges_is_left_as_soon_as_the_header_is_complete(
    lengths: bool, hub: FakeHub, source: Source, large: Path
) -> None:
    hub.switch(ranges=False, lengths=lengths)
    assert read(source) == read_file(large)
    assert hub.count("cdn") == 1
    assert hub.sent_bytes < WHOLE_BYTES / 2  # the operating system's buffers take some


@pytest.mark.parametrize("known_bytes", [True, False])
def test_a_size_that_the_hub_did_not_list_is_learnt(
    known_bytes: bool, hub: FakeHub, source: Source, large: Path
) -> None:
    hub.switch(ranges=known_bytes, lengths=known_bytes)
    assert read(replace(source, bytes=None)) == read_file(large)


def test_a_file_shorter_than_a_range(hub: FakeHub, tmp_path: Path) -> None:
    file = write(
        tmp_path / "s.gguf", {"general.architecture": "llama"}, [TensorSpec("w", (32,), "F32")], fill=Fill.RANDOM
    )
    hub.repos = {REPO: {FILE: file}}
    assert read(Source(SourceKind.HUB, REPO, FILE, None, None, COMMIT)) == read_file(file)
    assert hub.count("cdn") == 1


BREAKS: Mapping[str, list[dict[str, object]]] = {
    "in the first range": [{"drop_after_bytes": 99}],
    "in the second": [{}, {"drop_after_bytes": 1000}],
    "again and again": [{"drop_after_bytes": RANGE_BYTES - 1}] * 2,
    "busy": [{}, {"cdn_status": 503}],
    "an address that has expired": [{}, {"cdn_status": 403}],
    "no ranges any more": [{}, {"ranges": False}],
    "none, and it breaks": [{"ranges": False, "drop_after_bytes": 1 << 20}, {"ranges": False}],
}


@pytest.mark.parametrize("answers", BREAKS.values(), ids=BREAKS.keys())
def test_it_goes_on_after(answers: list[dict[str, object]], hub: FakeHub, source: Source, large: Path) -> None:
    hub.switch(answers=[dict(one) for one in answers])
    assert read(source) == read_file(large)
    file = held(source)
    assert file is not None and large.read_bytes().startswith(file.read_bytes())


def test_only_what_is_missing_is_asked_for_again(hub: FakeHub, source: Source) -> None:
    hub.switch(answers=[{}, {"drop_after_bytes": 1000}])
    read(source)
    assert ranges(hub)[2] == f"bytes={RANGE_BYTES + 1000}-{2 * RANGE_BYTES + 999}"


def test_the_token_goes_to_the_hub_alone(hub: FakeHub, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.switch(need_token=SECRET)
    read(source)
    assert {one.side: one.headers.get("Authorization") for one in hub.requests} == {
        "hub": f"Bearer {SECRET}",
        "cdn": None,
    }


REFUSALS = {
    "no token": ({"hub_status": 401}, AccessError, ["private", "HF_TOKEN"]),
    "gated": ({"hub_status": 403, "error_code": "GatedRepo"}, AccessError, ["licence", f"/{REPO}"]),
    "no such file": ({"hub_status": 404, "error_code": "EntryNotFound"}, NotFoundError, [f"no {FILE}"]),
    "wait an hour": ({"hub_status": 429, "retry_after": "3600"}, NetworkError, ["429", "wait 3600 s"]),
    "hub broken": ({"hub_status": 500}, NetworkError, ["500"]),
    "file host broken": ({"cdn_status": 503}, NetworkError, ["CDN", "503"]),
    "file host refuses": ({"cdn_status": 403}, NetworkError, ["CDN", "403", "sends files from"]),
    "no such range": ({"cdn_status": 416}, NetworkError, ["CDN", "416"]),
    "no content": ({"cdn_status": 204}, NetworkError, ["CDN", "204"]),
    "compressed": ({"encoding": "gzip"}, NetworkError, ["CDN", "gzip"]),
    "another part": ({"lie_about_range": 7}, NetworkError, ["CDN", "bytes from 7", "from 0"]),
    "a part before the start": ({"lie_about_range": -7}, NetworkError, ["CDN", "bytes from -1"]),
    "another file by now": ({"answers": [{}, {"etag": '"new"'}]}, NetworkError, ["CDN", "has changed"]),
    "breaks for ever": ({"drop_after_bytes": 0}, NetworkError, ["CDN"]),
    "redirects to itself": ({"redirect": "HUB"}, NetworkError, ["circles"]),
    "redirects to a file": ({"redirect": "file:///etc"}, NetworkError, ["safely"]),
}


@pytest.mark.parametrize(("switches", "kind", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(
    switches: dict[str, object], kind: type[LlmctlError], words: list[str], hub: FakeHub, source: Source
) -> None:
    hub.switch(**{**switches, "redirect": hub.url if switches.get("redirect") == "HUB" else switches.get("redirect")})
    with pytest.raises(kind) as caught:
        read(source)
    told = f"{caught.value.message} {caught.value.hint}"
    for word in words:
        assert word.replace("CDN", net.host_of(hub.cdn_url)) in told
    assert "signature" not in told and "None" not in told.removesuffix(" None")
    assert held(source) is None


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_of_another_size(ranges: bool, hub: FakeHub, source: Source, large: Path) -> None:
    hub.switch(ranges=ranges)
    with pytest.raises(
        IntegrityError, match=rf"^{REPO}/{FILE} has {large.stat().st_size:,} bytes at .* must have 12,345"
    ):
        read(replace(source, bytes=12_345))


def test_a_file_that_is_cut_off_on_the_hub(hub: FakeHub, source: Source, large: Path) -> None:
    hub.repos = {REPO: {FILE: large.read_bytes()[:3_000_000]}}
    with pytest.raises(
        IntegrityError, match=rf"^{REPO}/{FILE} is cut off: its header promises .* has 3000000"
    ) as caught:
        read(replace(source, bytes=3_000_000))
    assert caught.value.hint == f"llmctl plan {REPO}"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"<!DOCTYPE html>\n<p>Log in\n" * 999, "is a web page, not a GGUF file: it begins with '<!DOCTYPE html>'"),
        (b"", "is empty"),
        (b"GGUF\3\0\0\0", "is cut off in its header"),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_what_is_no_gguf_file(raw: bytes, words: str, ranges: bool, hub: FakeHub) -> None:
    hub.repos = {REPO: {FILE: raw}}
    hub.switch(ranges=ranges)
    with pytest.raises(IntegrityError, match=rf"^{REPO}/{FILE} {words}"):
        read(Source(SourceKind.HUB, REPO, FILE, None, None, COMMIT))


def test_more_than_was_announced(hub: FakeHub, source: Source) -> None:
    hub.repos = {REPO: {FILE: header({"general.architecture": "llama"}).ljust(700, b"\0")}}
    hub.switch(lengths=False, ranges=False)
    with pytest.raises(IntegrityError, match=rf"^{REPO}/{FILE} is longer than .* has announced"):
        read(replace(source, bytes=200))


def test_a_header_without_end_is_given_up(hub: FakeHub, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary that goes on through the whole file."""
    monkeypatch.setattr(headers, "MAX_HEADER_BYTES", 5 * RANGE_BYTES // 2)
    start = header({"general.architecture": "llama"})[:24].replace(struct.pack("<Q", 1), struct.pack("<Q", 9))
    vocabulary = struct.pack("<Q", 6) + b"tokens" + struct.pack("<IIQ", 9, 8, 4_000_000)
    endless = start + vocabulary + (struct.pack("<Q", 8) + b"x" * 8) * 600_000
    hub.repos = {REPO: {FILE: endless}}
    with pytest.raises(IntegrityError, match=r"of a header of at most 2621440$"):
        read(replace(source, bytes=len(endless)))
    assert hub.sent_bytes <= 3 * RANGE_BYTES
    assert held(source) is None


def test_of_the_other_parts_only_their_tables_travel(hub: FakeHub, tmp_path: Path) -> None:
    tiny = model_shape("tiny")
    metadata, tensors = llama_metadata(tiny), llama_tensors(tiny)
    whole = read_file(write(tmp_path / "whole.gguf", metadata, tensors), whole=False)
    files: dict[str, Path] = {}
    for number, some in enumerate((tensors[:9], tensors[9:], [])):
        figures = {"split.no": Kind(2, "H", number), "split.count": Kind(2, "H", 3)}
        name = f"q/t-{number + 1:05}-of-00003.gguf"
        spare = TensorSpec(f"spare.{number}", (1 << 20,), "F32")  # so that there is more than a header
        files[name] = write(
            tmp_path / str(number), figures if number else {**metadata, **figures}, [*some, spare], fill=Fill.SPARSE
        )
    hub.repos[REPO] = {**files}
    parts = [Source(SourceKind.HUB, REPO, name, file.stat().st_size, None, COMMIT) for name, file in files.items()]
    found = read(*parts)
    assert {one.name: one.nbytes for one in found.tensors if "spare" not in one.name} == {
        one.name: one.nbytes for one in whole.tensors
    }
    assert hub.sent_bytes <= RANGE_BYTES + 2 * PART_RANGE_BYTES
    assert hub.count("cdn") == 3
    assert read(*parts, offline=True) == found
    with pytest.raises(IntegrityError, match=rf"^{REPO}/q/t-00003-of-00003\.gguf is number 2 of the parts"):
        read(parts[0], parts[2], parts[1])
