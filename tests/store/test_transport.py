"""Models between machines without internet."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import (
    IntegrityError,
    LlmctlError,
    NotFoundError,
    ResourceError,
)
from llmctl.store import Owner, Store
from llmctl.store.transport import Label
from llmctl.types.model import Source, SourceKind
from tests.fakes import other_tools
from tests.fakes.gguf_file import cut, overwrite
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
    with pytest.raises(kind):
        Store().take(folder, quiet)
    assert Store().list() == []
    assert [path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
