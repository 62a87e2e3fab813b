"""Finding and listing what is here, whoever put it there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import settings
from llmctl.errors import NotFoundError
from llmctl.store import Owner, Store, Stored
from llmctl.types.model import Source, SourceKind
from llmctl.workspace.fetcher import Fetcher
from tests.fakes.gguf_file import cut
from tests.fakes.hub import COMMIT, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
OLDER = "f" * 40
Add = Callable[..., Path]


def move_to(commit: str, path: Path) -> Path:
    """The snapshot under another commit, as if the repository had gone on since."""
    target = path.parents[1] / commit
    path.parent.rename(target)
    return target / path.name


def test_list(hub: FakeHub, add: Add, source: Source) -> None:
    assert Store().list() == []
    path = add(source)
    size, sha256 = hub.size(REPO, FILE), hub.sha256(REPO, FILE)
    known = Source(SourceKind.HUB, REPO, FILE, size, sha256, COMMIT)
    assert Store().list() == [Stored(path, size, known, Owner.HUB_CACHE, REPO)]
    assert Store().find(known) == path


def test_two_snapshots_of_the_same_bytes_are_one_file(hub: FakeHub, add: Add, source: Source) -> None:
    path = add(source)
    shutil.copytree(path.parent, path.parents[1] / OLDER, symlinks=True)
    assert len(Store().list()) == 1


def test_another_snapshot_serves_a_branch_but_not_a_commit(hub: FakeHub, add: Add, source: Source) -> None:
    older = move_to(OLDER, add(source))
    assert Store().find(source) == older
    assert Store().find(replace(source, revision=OLDER)) == older
    assert Store().find(replace(source, revision=COMMIT)) is None
    exact = replace(source, revision=COMMIT, sha256=hub.sha256(REPO, FILE))
    assert Store().find(exact) == older
    assert Store().find(replace(exact, sha256="0" * 64)) is None


def test_bytes_that_are_here_under_another_commit_are_not_fetched_again(hub: FakeHub, add: Add, source: Source) -> None:
    older = move_to(OLDER, add(source))
    asked = hub.count("cdn")
    newer = add(replace(source, revision=COMMIT))
    assert newer.resolve() == older.resolve()
    assert hub.count("cdn") == asked


def test_a_cut_off_file_is_not_found_and_is_fetched_again(
    hub: FakeHub, add: Add, source: Source, model_file: Path
) -> None:
    known = replace(source, bytes=hub.size(REPO, FILE))
    path = add(known)
    cut(path.resolve(), 100_000)
    assert Store().find(known) is None
    assert add(known).read_bytes() == model_file.read_bytes()


def test_a_file_without_a_symlink_counts_by_its_size(hub: FakeHub, add: Add, source: Source) -> None:
    path = add(source)
    path.resolve().replace(path)
    exact = replace(source, sha256=hub.sha256(REPO, FILE), bytes=hub.size(REPO, FILE))
    assert Store().find(exact) == path
    assert Store().find(replace(exact, bytes=1)) is None
    assert [one.source.sha256 for one in Store().list()] == [None]


def test_a_symlink_that_leads_out_is_nothing(hub: FakeHub, add: Add, source: Source, model_file: Path) -> None:
    path = add(source)
    for target in (model_file, Path("../../../../../..") / model_file.name, path, Path("nowhere")):
        path.unlink()
        path.symlink_to(target)
        assert Store().find(source) is None
        assert Store().list() == []


def test_a_repository_on_another_disk_counts_as_inside(hub: FakeHub, add: Add, source: Source, tmp_path: Path) -> None:
    path = add(source)
    folder = path.parents[2]
    shutil.move(folder, tmp_path / "disk")
    folder.symlink_to(tmp_path / "disk")
    assert Store().find(source) == path
    assert len(Store().list()) == 1


def test_folders_that_cannot_be_read_hold_nothing(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    folder = home / "cache/huggingface/hub/models--maker--tiny-GGUF"
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")
    (folder.parent / "models--").mkdir()
    (folder.parent / "models--a--b" / "snapshots" / "main").mkdir(parents=True)
    assert Store().find(source) is None
    assert Store().list() == []


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_where_the_hubs_own_variables_say(
    variable: str, hub: FakeHub, add: Add, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert add(source).is_relative_to(tmp_path / "there")


def test_local_files_are_used_in_place(model_file: Path, tmp_path: Path) -> None:
    size = model_file.stat().st_size
    here = Source(SourceKind.LOCAL, None, str(model_file), size)
    assert Store().find(here) == model_file
    for gone in (replace(here, bytes=size + 1), replace(here, file=str(tmp_path)), replace(here, file="a\0b")):
        assert Store().find(gone) is None
        with pytest.raises(NotFoundError):
            Fetcher(Store(), settings.load()).add(gone, lambda done, total: None)


def test_finding_is_cheap(hub: FakeHub, add: Add, source: Source) -> None:
    """Nobody can read a terabyte, not even of zeros, in a second."""
    path = add(source)
    os.truncate(path, 1 << 40)
    begun_s = time.perf_counter()
    assert Store().find(replace(source, bytes=1 << 40, sha256=hub.sha256(REPO, FILE))) == path
    assert time.perf_counter() - begun_s < 1
