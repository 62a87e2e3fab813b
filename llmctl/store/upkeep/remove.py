"""Taking a file out of the store: what pointed to it goes with it, and what else needs its bytes keeps them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from llmctl.files import disk
from llmctl.files.lock import locked_now
from llmctl.store import hub_cache
from llmctl.store.layout import COMMIT, SHA256, Repository
from llmctl.store.stored import Stored

NAME = re.compile(f"{COMMIT.pattern}|{SHA256.pattern}")  # of a blob
PARTS_OF_A_REPOSITORY = ("snapshots", "blobs", "refs", "trees", ".no_exist")  # the last two are the hub tools' notes


def remove(root: Path, stored: Stored) -> int:
    """Removes a file of the hub cache at ``root`` from every snapshot that has it under this name.

    Returns the bytes that this frees: none where something else shares them. Raises ResourceError, also when another
    process is writing the file.
    """
    repository = Repository(root, stored.source.repo or "")
    blob = hub_cache.blob(stored.path)
    named = (repository.pointer(commit, stored.source.file) for commit in repository.commits())
    return remove_pointers(repository, [pointer for pointer in named if hub_cache.blob(pointer) == blob], blob)


def remove_pointers(repository: Repository, gone: Sequence[Path], blob: Path) -> int:
    """Removes the pointers ``gone``, and ``blob``, which they lead to, once nothing else does.

    A snapshot, a ref or a repository that is left empty goes, too. Returns and raises as ``remove``.
    """
    with _lock(repository, blob), disk.writing(repository.folder, blob.name):
        freed_bytes, emptied = 0, set()
        for pointer in gone:
            if os.path.lexists(pointer) and _within(pointer, repository):
                freed_bytes += _bytes(pointer)
                pointer.unlink()
                commit = pointer.relative_to(repository.folder / "snapshots").parts[0]
                if _emptied(repository.folder / "snapshots" / commit):
                    emptied.add(commit)
        is_shared = blob.parent != (repository.folder / "blobs").resolve()  # it isn't this repository's
        if not is_shared and not any(hub_cache.blob(pointer) == blob for pointer in pointers(repository)):
            freed_bytes += _bytes(blob)
            blob.unlink(missing_ok=True)
        for commit in emptied:
            for ref in hub_cache.refs(repository, commit):
                repository.ref(ref).unlink()
        remove_empty(repository)
    return freed_bytes


def pointers(repository: Repository) -> Iterator[Path]:
    """Every file of every snapshot, whatever it is."""
    for path in (repository.folder / "snapshots").rglob("*"):
        if path.is_symlink() or path.is_file():
            yield path


def _lock(repository: Repository, blob: Path) -> AbstractContextManager[None]:
    """The lock that every writer of this blob holds; a file without a blob has none."""
    if not NAME.fullmatch(blob.name):
        return nullcontext()
    return locked_now(repository.lock(blob.name), repository.repo)


def _bytes(path: Path) -> int:
    """What goes with the last name of a file; nothing with a symlink, or one of several names."""
    with suppress(OSError):
        status = path.lstat()
        if not path.is_symlink() and status.st_nlink == 1:
            return status.st_size
    return 0


def _within(pointer: Path, repository: Repository) -> bool:
    """Whether unlinking ``pointer`` changes a folder of this repository: a snapshot can be a symlink, too."""
    return pointer.parent.resolve().is_relative_to(repository.folder.resolve())


def _emptied(snapshot: Path) -> bool:
    """Removes empty folders from the inside out; whether the snapshot itself is gone."""
    for folder in sorted((path for path in snapshot.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):
        snapshot.rmdir()
    return not snapshot.exists()


def remove_empty(repository: Repository) -> None:
    """Removes what is left of a repository that holds no file and no part of one."""
    left = next(pointers(repository), None) or next((repository.folder / "blobs").glob("*"), None)
    if left is not None or repository.folder.is_symlink():
        return
    for part in PARTS_OF_A_REPOSITORY:
        shutil.rmtree(repository.folder / part, ignore_errors=True)
    with suppress(OSError):
        repository.folder.rmdir()
