"""What goes when a model is removed or the store is cleaned up, and what stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from msgspec.structs import replace

from llmctl.errors import ResourceError
from llmctl.store import Store
from llmctl.store.upkeep.prune import Leftover, LeftoverKind
from llmctl.types.model import Source, SourceKind
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
OLDER = "f" * 40
Add = Callable[..., Path]


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "cache/huggingface/hub/models--maker--tiny-GGUF"


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def remove_all() -> int:
    return sum(Store().remove(one) for one in Store().list())


def test_the_last_file_takes_its_repository_with_it(
    hub: FakeHub, add: Add, source: Source, folder: Path, model_file: Path
) -> None:
    add(source)
    for note in ("trees/x.json", ".no_exist/x/y"):  # of the hub's own tools
        (folder / note).parent.mkdir(parents=True)
        (folder / note).write_text("{}")
    assert remove_all() == model_file.stat().st_size
    assert not folder.exists()
    assert Store().list() == []


def test_a_file_beside_another_goes_alone(hub: FakeHub, add: Add, source: Source, folder: Path, tmp_path: Path) -> None:
    tensors = [TensorSpec("w", (256, 100), "F32")]
    other = write(tmp_path / "o", {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)
    hub.repos = {REPO: {FILE: hub.repos[REPO][FILE], "sub/other-Q8_0.gguf": other}}
    add(source)
    kept = add(replace(source, file="sub/other-Q8_0.gguf"))
    (one,) = [one for one in Store().list() if one.source.file == FILE]
    Store().remove(one)
    assert left(folder) == [
        f"blobs/{hub.sha256(REPO, 'sub/other-Q8_0.gguf')}",
        "refs/main",
        f"snapshots/{COMMIT}/sub/other-Q8_0.gguf",
    ]
    assert kept.is_file()


def test_every_snapshot_of_the_same_bytes(hub: FakeHub, add: Add, source: Source, folder: Path) -> None:
    path = add(source)
    shutil.copytree(path.parent, path.parents[1] / OLDER, symlinks=True)
    (folder / "refs/older").write_text(OLDER)
    (one,) = Store().list()
    assert Store().remove(one) == one.bytes
    assert not folder.exists()


def test_bytes_that_another_name_needs_stay(hub: FakeHub, add: Add, source: Source, folder: Path) -> None:
    path = add(source)
    (path.parent / "same.gguf").symlink_to(path.readlink())
    (one,) = [one for one in Store().list() if one.path == path]
    assert Store().remove(one) == 0
    assert (path.parent / "same.gguf").is_file()
    assert left(folder)[1:] == ["refs/main", f"snapshots/{COMMIT}/same.gguf"]


def test_a_file_without_a_symlink(hub: FakeHub, add: Add, source: Source, folder: Path) -> None:
    path = add(source)
    path.resolve().replace(path)
    (one,) = Store().list()
    assert Store().remove(one) == one.bytes
    assert not folder.exists()


def test_a_snapshot_that_leads_out_is_not_emptied(
    hub: FakeHub, add: Add, source: Source, folder: Path, tmp_path: Path
) -> None:
    """Whoever can write into the cache must not make llmctl remove what lies elsewhere."""
    path = add(source)
    (one,) = Store().list()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / FILE).symlink_to(path.resolve())
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(outside)
    Store().remove(one)
    assert (outside / FILE).is_symlink()


def test_what_another_process_is_writing_stays(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    path = add(source)
    (one,) = Store().list()
    with (
        FileLock(home / f"cache/huggingface/hub/.locks/models--maker--tiny-GGUF/{one.source.sha256}.lock"),
        pytest.raises(ResourceError, match="being written"),
    ):
        Store().remove(one)
    assert path.is_file()


def test_a_wheels_file(home: Path, model_file: Path) -> None:
    place = home / "data/llmctl/models/tiny-1.0"
    place.mkdir(parents=True)
    shutil.copyfile(model_file, place / "tiny.gguf")
    (one,) = Store().list()
    assert one.source.kind is SourceKind.PACKAGE_INDEX
    assert Store().remove(one) == one.bytes
    assert not place.exists()


# Cleaning up


def found() -> list[tuple[LeftoverKind, int]]:
    return sorted((one.kind, one.bytes) for one in Store().leftovers())


def clear() -> int:
    return sum(Store().clear(one) for one in Store().leftovers())


def test_nothing_is_left_over_where_everything_is_in_use(hub: FakeHub, add: Add, source: Source) -> None:
    add(source)
    assert Store().leftovers() == []


def test_looking_changes_nothing(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    path = add(source)
    path.unlink()
    before = times(home)
    assert len(Store().leftovers()) == 1
    assert times(home) == before


def times(folder: Path) -> list[tuple[Path, int]]:
    """When what is below ``folder`` was changed. Some versions of filelock touch a lock that they take."""
    return sorted((file, file.lstat().st_mtime_ns) for file in folder.rglob("*") if file.suffix != ".lock")


def test_an_orphan(hub: FakeHub, add: Add, source: Source, folder: Path) -> None:
    path = add(source)
    size = path.stat().st_size
    path.unlink()
    assert found() == [(LeftoverKind.ORPHAN, size)]
    assert clear() == size
    assert not list(folder.rglob("*.gguf")) and not list((folder / "blobs").glob("*"))


def test_an_orphan_that_is_no_model_is_none_of_ours(hub: FakeHub, add: Add, source: Source, folder: Path) -> None:
    add(source)
    (folder / "blobs" / ("a" * 64)).write_bytes(b'{"__metadata__": {}}')
    assert found() == []


@pytest.fixture
def newer(hub: FakeHub, add: Add, source: Source, folder: Path, tmp_path: Path) -> Path:
    """The branch has gone on: the file of the older commit lies beside the one that replaces it."""
    old = add(source)
    old.parent.rename(folder / "snapshots" / OLDER)
    tensors = [TensorSpec("w", (256, 200), "F32")]
    content = write(tmp_path / "newer", {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)
    hub.repos = {REPO: {FILE: content}}
    hub._sha256.clear()
    return add(replace(source, sha256=hub.sha256(REPO, FILE), bytes=content.stat().st_size))


def test_what_a_newer_revision_has_replaced(newer: Path, folder: Path, model_file: Path) -> None:
    size = model_file.stat().st_size
    assert found() == [(LeftoverKind.SUPERSEDED, size)]
    assert clear() == size
    assert left(folder) == [f"blobs/{newer.resolve().name}", "refs/main", f"snapshots/{COMMIT}/{FILE}"]
    assert found() == []


def test_a_commit_that_the_catalogue_names_is_not_replaced(newer: Path) -> None:
    assert Store().leftovers(keep={(REPO, OLDER)}) == []


def test_a_commit_that_a_branch_stands_for_is_not_replaced(newer: Path, folder: Path) -> None:
    (folder / "refs/v1").write_text(OLDER)
    assert found() == []


def test_a_file_that_the_newer_revision_lacks_stays(newer: Path, folder: Path) -> None:
    old = folder / "snapshots" / OLDER
    (old / FILE).rename(old / "tiny-Q2_K.gguf")
    assert found() == []


def test_parts_of_downloads(hub: FakeHub, folder: Path, home: Path) -> None:
    blobs = folder / "blobs"
    blobs.mkdir(parents=True)
    sha256 = hub.sha256(REPO, FILE)
    for name in (f"{sha256}.llmctl.incomplete", f"{sha256}.llmctl.journal", f"{'b' * 64}.copy.llmctl"):
        (blobs / name).write_bytes(b"GGUF" if "journal" not in name else b"12345 {}")
    (blobs / "something.else").write_bytes(b"GGUF")
    files = home / "data/llmctl/models/files"
    for place in (files / ("c" * 64) / "x.gguf.llmctl.incomplete", files / ".adding-1234/x.gguf"):
        place.parent.mkdir(parents=True)
        place.write_bytes(b"GGUF")
    (home / "data/llmctl/models/.fetching-tiny-1.0-abc").mkdir()
    assert [kind for kind, _ in found()] == [LeftoverKind.PARTIAL] * 5
    assert clear() == 4 + 8 + 4 + 4 + 4
    assert [path.name for path in blobs.iterdir()] == ["something.else"]
    assert not [path for path in files.rglob("*") if not path.name.endswith(".lock")]


def test_what_got_a_writer_meanwhile_stays(hub: FakeHub, folder: Path, home: Path) -> None:
    blobs = folder / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'b' * 64}.llmctl").write_bytes(b"GGUF")
    (one,) = Store().leftovers()
    assert isinstance(one, Leftover)
    one.lock.parent.mkdir(parents=True)
    with FileLock(one.lock):
        assert Store().leftovers() == []
        with pytest.raises(ResourceError, match="being written"):
            Store().clear(one)
    assert Store().clear(one) == 4
