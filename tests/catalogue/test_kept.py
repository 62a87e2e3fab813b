"""The catalogue as it was read last: the same models, and none that a profile no longer says."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.catalogue import kept, profiles
from llmctl.catalogue.kept import KeptModels

SHIPPED = paths.profiles_dir() / "models"


@pytest.fixture
def folders(home: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two profiles, an overlay without any, and a home without a cache."""
    folder, overlay = tmp_path / "models", tmp_path / "overlay"
    folder.mkdir()
    overlay.mkdir()
    for name in ("smollm.toml", "gemma-3.toml"):
        shutil.copy(SHIPPED / name, folder)
    return folder, overlay


def kept_file() -> Path:
    return paths.cache_dir() / kept.NAME


def test_what_is_kept_is_what_all_profiles_say(folders: tuple[Path, Path]) -> None:
    loaded = profiles.load(SHIPPED, folders[1])
    assert [kept.load(SHIPPED, folders[1]) for _ in range(2)] == [loaded, loaded]


def test_what_is_kept_is_not_read_again(folders: tuple[Path, Path]) -> None:
    loaded = kept.load(*folders)
    written = msgspec.msgpack.decode(kept_file().read_bytes(), type=KeptModels)
    kept_file().write_bytes(msgspec.msgpack.encode(replace(written, models=loaded.models[:1])))
    assert kept.load(*folders).models == loaded.models[:1]
    assert kept_file().stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("where", ["changed", "added", "removed"])
def test_a_profile_that_has_changed_is_read(folders: tuple[Path, Path], where: str) -> None:
    folder, overlay = folders
    before = kept.load(*folders)
    profile = folder / "smollm.toml"
    if where == "changed":
        profile.write_text(profile.read_text().replace('name = "', 'name = "Another ', 1))
    elif where == "added":
        shutil.copy(SHIPPED / "phi-4.toml", overlay)
    else:
        profile.unlink()
    after = kept.load(*folders)
    assert after != before
    assert after == profiles.load(*folders)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x90", b"\x91" * 100_000], ids=["empty", "no", "short", "deep"])
def test_a_broken_file_is_made_anew(folders: tuple[Path, Path], content: bytes) -> None:
    loaded = kept.load(*folders)
    kept_file().write_bytes(content)
    assert kept.load(*folders) == loaded
    assert msgspec.msgpack.decode(kept_file().read_bytes(), type=KeptModels).models == loaded.models


def test_problems_are_told_each_time(folders: tuple[Path, Path]) -> None:
    (folders[1] / "broken.toml").write_text("[[model]]\n")
    assert [len(kept.load(*folders).problems) for _ in range(2)] == [1, 1]
    assert not kept_file().exists()
