"""Which files of a folder are its texts: hidden ones and those that ``.gitignore`` names are not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".gitignore"
IGNORE_BYTES = 1 << 20
MOST_DEPTH = 64  # folders in folders


class FolderFile(Struct, frozen=True):
    """``path`` from the folder, its parts with slashes between."""

    path: str
    size_bytes: int
    mtime_ns: int


class FolderFiles(Struct, frozen=True):
    """``unreadable``: folders that can't be listed; of what is in them nothing is known. ``ignored`` of files and
    folders were left out because a ``.gitignore`` names them."""

    files: tuple[FolderFile, ...]
    unreadable: tuple[str, ...]
    ignored: int


class _Rules(Struct, frozen=True):
    """What a ``.gitignore`` in the folder ``base`` (with a slash at its end, or empty) says."""

    base: str
    spec: GitIgnoreSpec

    def ignores(self, path: str) -> bool | None:
        """None where nothing is said of ``path``."""
        return self.spec.check_file(path.removeprefix(self.base)).include


class _Walk:
    def __init__(self) -> None:
        self.unreadable: list[str] = []
        self.ignored = 0

    def files(self, folder: Path, base: str, rules: tuple[_Rules, ...], depth: int) -> Iterator[FolderFile]:
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            self.unreadable.append(base)
            return
        if any(entry.name == IGNORE_FILE for entry in entries):
            rules = (*_rules(folder, base), *rules)
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            path = base + entry.name
            is_folder = _is_folder(entry)
            if rules and _is_ignored(f"{path}/" if is_folder else path, rules):
                self.ignored += 1
            elif not is_folder:
                yield from _file(entry, path)
            elif depth < MOST_DEPTH:
                yield from self.files(folder / entry.name, f"{path}/", rules, depth + 1)
            else:
                self.unreadable.append(f"{path}/")


def files_of(folder: Path) -> FolderFiles:
    """The files of ``folder`` and of the folders in it, in the order of their names. No link is followed."""
    walk = _Walk()
    files = tuple(walk.files(folder, "", (), 0))
    return FolderFiles(files, tuple(walk.unreadable), walk.ignored)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _file(entry: os.DirEntry[str], path: str) -> Iterator[FolderFile]:
    """The file, unless it is a pipe, a device or gone."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield FolderFile(path, status.st_size, status.st_mtime_ns)


def _rules(folder: Path, base: str) -> tuple[_Rules, ...]:
    from pathspec import GitIgnoreSpec

    try:
        with (folder / IGNORE_FILE).open("rb") as file:
            lines = file.read(IGNORE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return (_Rules(base, GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))),)


def _is_pattern(line: str) -> bool:
    """False for what git leaves alone as well, and pathspec raises for."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _is_ignored(path: str, rules: tuple[_Rules, ...]) -> bool:
    """By the ``rules`` of the folder itself first, then of those above it."""
    said = (rule.ignores(path) for rule in rules)
    return next((ignores for ignores in said if ignores is not None), False)
