"""Small files of our own: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llmctl.files import atomic


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "told.json"
    atomic.write_json(file, {"before": 1})
    with file.open() as reader:
        atomic.write_json(file, {"after": 2})
        assert reader.read() == '{"before": 1}'
    assert atomic.read_json(file, 100, dict[str, int]) == {"after": 2}
    assert os.listdir(file.parent) == ["told.json"]


def test_whose_it_is(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        atomic.write(tmp_path / "own", b"x")
        atomic.write(tmp_path / "shared", b"x", mode=atomic.SHARED, lasting=True)
    finally:
        os.umask(mask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("own", "shared")] == [0o600, 0o644]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "told.json"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        atomic.write(folder, b"x")
    atomic.write_json(folder, {"x": 1})  # who can't write it does without
    assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["inside", "told.json"]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"x": "' + b"y" * 2000 + b'"}'])
def test_what_is_broken_or_endless_is_nothing(raw: bytes, tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    file.write_bytes(raw)
    assert atomic.read_json(file, 1000 if len(raw) < 10_000 else 1 << 20, object) is None
    assert atomic.read_json(tmp_path / "missing", 1000, object) is None
