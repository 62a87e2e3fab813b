"""Models between machines without internet."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.errors import (
    IntegrityError,
    LlmctlError,
    NotFoundError,
    ResourceError,
)
from llmctl.store import Owner, Store, copy
from llmctl.store.carry import Label
from llmctl.types.model import Source, SourceKind
from tests.fakes import other_tools
from tests.fakes.gguf_file import cut, overwrite, write
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]


def quiet(done_bytes: int, total_bytes: int | None) -> None:
    """Nobody looks."""


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "a stick"


def carried(stick: Path, *names: str) -> Path:
    files = [one for one in Store().list() if not names or one.path.name in names]
    return Store().carry(files, Label("tiny", "Q4_0", "MIT"), stick, quiet)


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Path]:
    """Another home, and no internet."""

    def move() -> Path:
        place = tmp_path / "other"
        monkeypatch.setenv("HOME", str(place))
        monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        return place

    return move


def test_a_model_of_the_hub_arrives_where_the_hub_would_have_put_it(
    hub: FakeHub, add: Add, source: Source, stick: Path, other_machine: Callable[[], Path], model_file: Path
) -> None:
    add(source)
    folder = carried(stick)
    assert sorted(path.name for path in folder.iterdir()) == ["llmctl.json", FILE]
    told = json.loads((folder / "llmctl.json").read_text())
    assert (told["name"], told["quant"], told["licence"]) == ("tiny", "Q4_0", "MIT")
    assert (told["place"], told["revision"], told["refs"]) == (REPO, COMMIT, ["main"])
    sha256, size = hub.sha256(REPO, FILE), model_file.stat().st_size
    assert told["files"] == [{"file": FILE, "bytes": size, "sha256": sha256}]
    asked = len(hub.requests)
    place = other_machine()
    seen: list[tuple[int, int | None]] = []
    (path,) = Store().take(folder, lambda done, total: seen.append((done, total)))
    assert path == place / f"cache/huggingface/hub/models--maker--tiny-GGUF/snapshots/{COMMIT}/{FILE}"
    assert path.read_bytes() == model_file.read_bytes()
    assert path.resolve().name == sha256
    assert (path.parents[2] / "refs/main").read_text() == COMMIT
    assert add(source) == path
    assert seen == sorted(seen) and seen[-1] == (size, size)
    assert len(hub.requests) == asked


def test_a_second_time_nothing_is_copied(hub: FakeHub, add: Add, source: Source, stick: Path) -> None:
    add(source)
    folder = carried(stick)
    before = (folder / FILE).stat().st_mtime_ns
    assert carried(stick) == folder
    assert (folder / FILE).stat().st_mtime_ns == before
    overwrite(folder / FILE, 1_000_000, b"other")
    cut(folder / FILE, 2_000_000)
    assert carried(stick) == folder
    assert (folder / FILE).stat().st_mtime_ns != before


def test_what_is_wrong_here_is_not_carried_away(hub: FakeHub, add: Add, source: Source, stick: Path) -> None:
    overwrite(add(source).resolve(), 1_000_000, b"other")
    with pytest.raises(IntegrityError, match="sha256"):
        carried(stick)
    assert not list(stick.rglob("*.gguf*"))


def test_a_stick_that_is_full(hub: FakeHub, add: Add, source: Source, stick: Path) -> None:
    add(source)
    (one,) = Store().list()
    with pytest.raises(ResourceError, match=r"needs 4\.4 TB"):
        Store().carry([replace(one, bytes=1 << 42)], Label("tiny", "Q4_0"), stick, quiet)
    assert not stick.exists()


def test_a_wheels_model(home: Path, stick: Path, other_machine: Callable[[], Path], model_file: Path) -> None:
    place = home / "data/llmctl/models/tiny-1.0"
    place.mkdir(parents=True)
    shutil.copyfile(model_file, place / "tiny.gguf")
    folder = carried(stick)
    other_machine()
    (path,) = Store().take(folder, quiet)
    wanted = Source(SourceKind.PACKAGE_INDEX, "tiny==1.0", "package/tiny.gguf", model_file.stat().st_size)
    assert Store().find(wanted) == path


def test_a_model_that_ollama_holds(
    home: Path, stick: Path, other_machine: Callable[[], Path], model_file: Path
) -> None:
    other_tools.ollama(home / ".ollama/models", model_file)
    folder = carried(stick)
    assert [path.name for path in folder.glob("*.gguf")] == ["tiny-Q4_0.gguf"]
    other_machine()
    (path,) = Store().take(folder, quiet)
    (one,) = Store().list()
    sha256 = other_tools.sha256(model_file)
    assert (one.owner, one.path, one.name, one.source.sha256) == (Owner.LLMCTL, path, "tiny", sha256)
    assert Store().find(Source(SourceKind.HUB, REPO, "any.gguf", one.bytes, sha256)) == path


# Broken off


class Pulled(Exception):
    """The stick was, out of its socket."""


def until(most_bytes: int) -> Callable[[int, int | None], None]:
    def tell(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes >= most_bytes:
            raise Pulled

    return tell


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "PIECE_BYTES", 100_000)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_copy_goes_on_where_it_was_broken_off(
    spoilt: bool, hub: FakeHub, add: Add, source: Source, stick: Path, other_machine: Callable[[], Path]
) -> None:
    """Both ways; what was left of other bytes, or of a power cut, is found out and made anew."""
    add(source)
    (one,) = Store().list()
    label = Label("tiny", "Q4_0")
    with pytest.raises(Pulled):
        Store().carry([one], label, stick, until(1_000_000))
    (left,) = stick.rglob("*.llmctl.incomplete")
    kept_bytes = left.stat().st_size
    assert kept_bytes >= 1_000_000
    if spoilt:
        overwrite(left, 1000, b"other")
    seen: list[int] = []
    folder = Store().carry([one], label, stick, lambda done, total: seen.append(done))
    assert (min(seen) == 0) is spoilt and seen[0] == kept_bytes
    assert (folder / FILE).read_bytes() == one.path.read_bytes()
    assert not left.exists()
    place = other_machine()
    with pytest.raises(Pulled):
        Store().take(folder, until(1_000_000))
    (left,) = place.rglob("*.llmctl.incomplete")
    assert [one.bytes for one in Store().leftovers()] == [pytest.approx(left.stat().st_size, abs=16384)]
    if spoilt:
        overwrite(left, 1000, b"other")
    seen.clear()
    (path,) = Store().take(folder, lambda done, total: seen.append(done))
    assert seen[0] >= 1_000_000
    assert path.read_bytes() == (folder / FILE).read_bytes()
    assert not left.exists()


@pytest.mark.usefixtures("small_pieces")
def test_files_that_were_carried_whole_are_not_carried_again(
    home: Path, hub: FakeHub, model_file: Path, stick: Path, tmp_path: Path
) -> None:
    projector = write(tmp_path / "mmproj-F16.gguf", {"general.architecture": "clip"})
    Store().add_files([model_file, projector], Label("tiny", "Q4_0"), sha256=None, progress=quiet)
    both, label = Store().list(), Label("tiny", "Q4_0")
    with pytest.raises(Pulled):
        Store().carry(both, label, stick, until(model_file.stat().st_size + 1))
    (there,) = stick.rglob("*.gguf")
    inode = there.stat().st_ino
    Store().carry(both, label, stick, quiet)
    assert there.stat().st_ino == inode
    shutil.rmtree(there.parent)
    with pytest.raises(Pulled):
        Store().carry(both, label, stick, until(model_file.stat().st_size + 1))
    (there,) = stick.rglob("*.gguf")
    overwrite(there, 1_000_000, b"other")
    folder = Store().carry(both, label, stick, quiet)
    assert there.read_bytes() == model_file.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["llmctl.json", "mmproj-F16.gguf", FILE]


@pytest.mark.usefixtures("small_pieces")
def test_a_copy_whose_sha256_nobody_knows_leaves_nothing(home: Path, model_file: Path, stick: Path) -> None:
    other_tools.lm_studio(home / ".lmstudio/models", model_file, REPO, FILE)
    with pytest.raises(Pulled):
        Store().carry(Store().list(), Label("tiny", "Q4_0"), stick, until(1_000_000))
    assert [path for path in stick.rglob("*") if path.is_file()] == []


def test_a_disk_that_has_room_for_the_rest_only(
    hub: FakeHub, add: Add, source: Source, stick: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(source)
    (one,) = Store().list()
    with pytest.raises(Pulled):
        Store().carry([one], Label("tiny", "Q4_0"), stick, until(2_000_000))
    usage = shutil.disk_usage(stick)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(total=0, free=(64 << 20) + 1_500_000))
    Store().carry([one], Label("tiny", "Q4_0"), stick, quiet)


# A folder that somebody has prepared

Damage = Callable[[Path, dict[str, Any]], None]


def no_manifest(folder: Path, told: dict[str, Any]) -> None:
    (folder / "llmctl.json").unlink()


def said(**changed: object) -> Damage:
    def write(folder: Path, told: dict[str, Any]) -> None:
        (folder / "llmctl.json").write_text(json.dumps(told | changed))

    return write


def file_said(**changed: object) -> Damage:
    def write(folder: Path, told: dict[str, Any]) -> None:
        (folder / "llmctl.json").write_text(json.dumps(told | {"files": [told["files"][0] | changed]}))

    return write


def another_model(folder: Path, told: dict[str, Any]) -> None:
    overwrite(folder / FILE, 1_000_000, b"other")


def no_model(folder: Path, told: dict[str, Any]) -> None:
    (folder / FILE).write_bytes(b"no model" * 10)
    raw = (folder / FILE).read_bytes()
    file_said(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())(folder, told)


def leads_out(folder: Path, told: dict[str, Any]) -> None:
    secret = folder.parent / "secret.gguf"
    (folder / FILE).rename(secret)
    (folder / FILE).symlink_to(secret)


DAMAGES: dict[str, tuple[Damage, type[LlmctlError]]] = {
    "no manifest": (no_manifest, NotFoundError),
    "another schema": (said(schema="llmctl-model/9"), IntegrityError),
    "no files": (said(files=[]), IntegrityError),
    "files of the wrong kind": (said(files=["x"]), IntegrityError),
    "endless files": (said(files=[{}] * 5000), IntegrityError),
    "an origin that is none": (said(origin="moon"), IntegrityError),
    "a repository that leads out": (said(place="../.."), IntegrityError),
    "a commit that leads out": (said(revision="../../../x"), IntegrityError),
    "no commit": (said(revision=None), IntegrityError),
    "a branch that leads out": (said(refs=["../../../x"]), IntegrityError),
    "a requirement that is an option": (said(origin="package_index", place="--pre"), IntegrityError),
    "a name that drives a terminal": (said(name="\x1b[2J"), IntegrityError),
    "a file that leads out": (file_said(file="../secret.gguf"), IntegrityError),
    "a file of Windows": (file_said(file="C:x.gguf"), IntegrityError),
    "a sha256 that is none": (file_said(sha256="../x"), IntegrityError),
    "a size that is none": (file_said(bytes="many"), IntegrityError),
    "another size": (file_said(bytes=12), IntegrityError),
    "another sha256": (file_said(sha256="0" * 64), IntegrityError),
    "a file that is missing": (file_said(file="other.gguf"), IntegrityError),
    "other bytes": (another_model, IntegrityError),
    "no model at all": (no_model, IntegrityError),
    "a symlink that leads out": (leads_out, IntegrityError),
}


@pytest.mark.parametrize(("damage", "kind"), DAMAGES.values(), ids=DAMAGES.keys())
def test_nothing_wrong_gets_in(
    damage: Damage,
    kind: type[LlmctlError],
    hub: FakeHub,
    add: Add,
    source: Source,
    stick: Path,
    other_machine: Callable[[], Path],
) -> None:
    add(source)
    folder = carried(stick)
    damage(folder, json.loads((folder / "llmctl.json").read_text()))
    place = other_machine()
    with pytest.raises(kind) as caught:
        Store().take(folder, quiet)
    assert caught.value.hint
    assert Store().list() == []
    assert [path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
