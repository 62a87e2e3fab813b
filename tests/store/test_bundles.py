"""What llmctl keeps for itself: from an address, or a file of the user's own; and whether it is still what it was."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import settings
from llmctl.errors import (
    AccessError,
    IntegrityError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    OfflineError,
    ResourceError,
    UsageError,
)
from llmctl.files.lock import locked
from llmctl.store import Owner, Store
from llmctl.store.carry import Label
from llmctl.types.model import Source
from tests.fakes import other_tools
from tests.fakes.gguf_file import cut, overwrite, write
from tests.fakes.hub import FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]


def quiet(done_bytes: int, total_bytes: int | None) -> None:
    """Nobody looks."""


# Addresses


@pytest.fixture
def url(hub: FakeHub) -> str:
    return f"{hub.cdn_url}/{REPO}/{FILE}?signature=of-this-moment"


def fetch(url: str, sha256: str, **changed: object) -> Path:
    loaded = replace(settings.load(), **changed)
    return Store().add_address(url, sha256, settings=loaded, progress=quiet)


def test_an_address(hub: FakeHub, url: str, home: Path, model_file: Path) -> None:
    sha256 = hub.sha256(REPO, FILE)
    path = fetch(url, sha256.upper())
    assert path == home / f"data/llmctl/models/files/{sha256}/{FILE}"
    assert path.read_bytes() == model_file.read_bytes()
    (one,) = Store().list()
    assert (one.owner, one.source.sha256, one.path) == (Owner.LLMCTL, sha256, path)
    told = (path.parent / "llmctl.json").read_text()
    assert "signature" not in told and f"{hub.cdn_url}/{REPO}/{FILE}" in told
    asked = len(hub.requests)
    assert fetch(url, sha256, offline=True) == path
    assert len(hub.requests) == asked
    assert Store().remove(one) == one.bytes
    assert not path.parent.exists()


def test_an_address_gets_no_token(hub: FakeHub, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_madeUpForThisTest")
    fetch(url, hub.sha256(REPO, FILE))
    assert not any("Authorization" in one.headers for one in hub.requests)


ADDRESSES = {
    "other bytes": ({}, "0" * 64, IntegrityError, "sha256"),
    "not there": ({"cdn_status": 404}, None, NotFoundError, "404"),
    "not allowed": ({"cdn_status": 403}, None, AccessError, "403"),
    "broken": ({"cdn_status": 500}, None, NetworkError, "500"),
    "wait": ({"cdn_status": 429, "retry_after": "900"}, None, NetworkError, "900 s"),
}


@pytest.mark.parametrize(("switches", "sha256", "kind", "words"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_that_fails(
    switches: dict[str, object], sha256: str | None, kind: type[LlmctlError], words: str, hub: FakeHub, url: str
) -> None:
    hub.switch(**switches)
    with pytest.raises(kind, match=words) as caught:
        fetch(url, sha256 or hub.sha256(REPO, FILE))
    assert caught.value.hint
    assert "signature" not in f"{caught.value.message} {caught.value.hint}"
    assert Store().list() == []


@pytest.mark.parametrize(
    ("url", "sha256", "kind"),
    [
        ("http://example.org/x.gguf", "0" * 64, UsageError),
        ("ftp://example.org/x.gguf", "0" * 64, UsageError),
        ("https://example.org:x/x.gguf", "0" * 64, UsageError),
        ("https://example.org:99999/x.gguf", "0" * 64, UsageError),
        ("https://[::1/x.gguf", "0" * 64, UsageError),
        ("https:///x.gguf", "0" * 64, UsageError),
        ("https://example.org/x.gguf", "", UsageError),
        ("https://example.org/x.gguf", "xyz", UsageError),
        ("https://example.org/", "0" * 64, IntegrityError),
        ("https://example.org/..%2F..%2Fx", "0" * 64, OfflineError),  # its last part is a plain name
        ("https://example.org/%2e%2e", "0" * 64, IntegrityError),
        ("https://example.org/nul.gguf", "0" * 64, IntegrityError),
        ("https://example.org/x.gguf", "0" * 64, OfflineError),
    ],
)
def test_an_address_that_is_not_asked(url: str, sha256: str, kind: type[LlmctlError]) -> None:
    with pytest.raises(kind):
        fetch(url, sha256, offline=True)


# The user's own files


def keep(file: Path, sha256: str | None = None) -> Path:
    return Store().add_files([file], Label("mine", "Q4_0"), sha256=sha256, progress=quiet)[0]


def test_a_file_of_the_users_own_is_copied(home: Path, model_file: Path, tmp_path: Path) -> None:
    sha256 = other_tools.sha256(model_file)
    path = keep(model_file)
    assert path == home / f"data/llmctl/models/files/{sha256}/{FILE}"
    assert path.stat().st_ino != model_file.stat().st_ino
    again = tmp_path / FILE
    shutil.copyfile(model_file, again)
    assert keep(again) == path
    assert len(Store().list()) == 1


@pytest.mark.parametrize("what", ["sha256", "cut off", "no model", "missing", "a folder"])
def test_a_file_that_is_not_what_it_must_be(what: str, home: Path, model_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    shutil.copyfile(model_file, file)
    match what:
        case "cut off":
            cut(file, 1_000_000)
        case "no model":
            file.write_text("hello")
        case "missing":
            file.unlink()
        case "a folder":
            file = tmp_path
    with pytest.raises(LlmctlError) as caught:
        keep(file, "0" * 64 if what == "sha256" else None)
    assert str(file) in caught.value.message
    assert caught.value.hint
    assert Store().list() == []
    assert [path for path in (home / "data").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_name_that_another_system_could_not_have(model_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "a:b.gguf"
    shutil.copyfile(model_file, file)
    with pytest.raises(IntegrityError, match="can't be a file name"):
        keep(file)


@pytest.fixture
def projectors(tmp_path: Path) -> tuple[Path, Path]:
    """Two of one name and one size, with other bytes."""
    made = []
    for place, text in (("one", "first"), ("other", "other")):
        (tmp_path / place).mkdir()
        made.append(write(tmp_path / place / "mmproj-F16.gguf", {"general.architecture": "clip", "x": text}))
    assert made[0].stat().st_size == made[1].stat().st_size
    return made[0], made[1]


def keep_all(*files: Path) -> list[Path]:
    return Store().add_files(files, Label("mine", "Q4_0"), sha256=None, progress=quiet)


def test_all_files_of_a_model_are_compared_with_what_is_kept(model_file: Path, projectors: tuple[Path, Path]) -> None:
    before = keep_all(model_file, projectors[0])
    inodes = [path.stat().st_ino for path in before]
    assert keep_all(model_file, projectors[0]) == keep_all(model_file) == before
    assert [path.stat().st_ino for path in before] == inodes
    assert keep_all(model_file, projectors[1]) == before
    assert before[1].read_bytes() == projectors[1].read_bytes()
    assert states() == ["unchanged", "unchanged"]


def test_what_is_kept_beside_a_model_outlives_the_model(
    model_file: Path, projectors: tuple[Path, Path], tmp_path: Path
) -> None:
    model, projector = keep_all(model_file, projectors[0])
    model.unlink()
    assert keep_all(model_file) == [model, projector]
    renamed = tmp_path / "renamed.gguf"
    shutil.copyfile(model_file, renamed)
    assert keep_all(renamed) == [model.with_name("renamed.gguf"), projector]
    assert not model.exists()  # the same bytes need no second name
    assert states() == ["unchanged", "unchanged"]


def test_who_writes_there_holds_one_lock(
    hub: FakeHub, url: str, model_file: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file from an address, one of the user's own, one off a stick: each waits for the same lock, and none of them
    is removed while somebody has it."""
    keep(model_file)
    folder = Store().carry(Store().list(), Label("tiny", "Q4_0"), tmp_path / "stick", quiet)
    (one,) = Store().list()
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(model_file, copy)
    writers: list[Callable[[], object]] = [
        lambda: fetch(url, hub.sha256(REPO, FILE)),
        lambda: keep(copy),
        lambda: Store().take(folder, quiet),
    ]
    monkeypatch.setattr("llmctl.files.lock.LOOK_S", 0.01)
    lock = one.path.parent.with_name(f".{one.path.parent.name}.lock")
    for write_it in writers:
        with locked(lock, waiting=lambda: None):
            begun_s = time.monotonic()
            with pytest.raises(ResourceError, match="being written by another process"):
                Store().remove(one)
            assert time.monotonic() - begun_s < 2
            one.path.unlink()
            running = threading.Thread(target=write_it)
            running.start()
            running.join(0.2)
            assert running.is_alive()
        running.join(10)
        (one,) = Store().list()
    assert Store().remove(one) == one.bytes
    assert Store().list() == []


# Whether it is still what it was


def states() -> list[str]:
    return [Store().verify(one, None, quiet).state for one in Store().list()]


def test_verify(hub: FakeHub, add: Add, source: Source, home: Path, model_file: Path) -> None:
    path = add(source)
    assert states() == ["sound"]
    overwrite(path.resolve(), 1_000_000, b"other")
    assert states() == ["wrong"]
    cut(path.resolve(), 1_000_000)
    assert states() == ["wrong"]


def test_verify_where_nobody_knows_the_sha256(home: Path, model_file: Path) -> None:
    path = other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    assert states() == ["whole"]
    (one,) = Store().list()
    assert Store().verify(one, other_tools.sha256(model_file), quiet).state == "sound"
    assert Store().verify(one, "0" * 64, quiet).state == "wrong"
    cut(path, 1_000_000)
    assert states() == ["wrong"]
    path.unlink()
    assert Store().verify(one, None, quiet).state == "unreadable"
