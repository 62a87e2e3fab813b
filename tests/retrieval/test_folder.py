"""Which files of a folder are its texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl.retrieval.folder import files_of


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def names(root: Path) -> list[str]:
    return [file.path for file in files_of(root).files]


def test_hidden_files_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "b.md", "a/c.txt", ".hidden", ".git/config", "a/.env")
    (tmp_path / "link").symlink_to(tmp_path / "b.md")
    (tmp_path / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["a/c.txt", "b.md"]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("*.log\n", ["keep/a.log.md", "keep/b.md"]),
        ("*.log\n!keep.log\n", ["keep/a.log.md", "keep/b.md", "keep/keep.log"]),
        ("/keep/\n", ["a.log"]),
        ("# nothing\n\n!\n", ["a.log", "keep/a.log.md", "keep/b.md", "keep/keep.log"]),
    ],
)
def test_what_a_gitignore_names_is_left_out(rules: str, left: list[str], tmp_path: Path) -> None:
    put(tmp_path, "a.log", "keep/a.log.md", "keep/b.md", "keep/keep.log")
    (tmp_path / ".gitignore").write_text(rules)
    assert names(tmp_path) == left


def test_a_deeper_gitignore_decides_before_the_one_above(tmp_path: Path) -> None:
    put(tmp_path, "a/x.log", "b/x.log")
    (tmp_path / ".gitignore").write_text("*.log")
    (tmp_path / "a/.gitignore").write_text("!x.log")
    assert names(tmp_path) == ["a/x.log"]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w") as file:
        file.write("x")
    (file_name,) = names(tmp_path)
    assert os.fsencode(file_name) == b"caf\xe9.txt"
