"""Files of the store that are not needed: interrupted downloads, blobs without a name, files that newer ones replaced.

Only GGUF files of the hub cache and llmctl's own folders are looked at. What a living process is writing is let alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from llmctl.errors import ResourceError
from llmctl.files import disk
from llmctl.files.lock import locked_now
from llmctl.gguf import file_names
from llmctl.store import bundles, hub_cache, wheels
from llmctl.store.layout import SHA256, Repository, requirement
from llmctl.store.upkeep.remove import NAME, pointers, remove_empty, remove_pointers
from llmctl.transfer import partial_file

# What llmctl's own transfers leave beside a blob that is not whole yet, and those of the hub's tools.
PARTIAL = re.compile(rf"({NAME.pattern})\.(?:.*\.)?(?:llmctl|incomplete)(?:\..*)?")
UNFINISHED = (partial_file.JOURNAL_ENDING, partial_file.ENDING, ".copy.llmctl")  # the last: of earlier versions
PARTS = (".llmctl", ".incomplete")  # the others are notes
FIRST_BYTES = (b"GGUF", b"\0\0\0\0", b"")  # of a model; of one whose first part is still missing; of nothing yet


class LeftoverKind(StrEnum):
    """Why something can go."""

    PARTIAL = "partial"
    ORPHAN = "orphan"
    SUPERSEDED = "superseded"


class Leftover(Struct, frozen=True):
    """``bytes`` is what the removal of ``paths`` frees; ``name`` says whose they are: the repository, or the folder.

    ``blob`` is what the paths of a superseded file lead to, or the orphan.
    """

    kind: LeftoverKind
    name: str
    paths: tuple[Path, ...]
    bytes: int
    lock: Path
    repository: Repository | None = None
    blob: Path | None = None


def leftovers(root: Path, models: Path, keep: Collection[tuple[str, str]]) -> list[Leftover]:
    """Everything that can go. ``keep`` are repositories with commits that count although no branch stands for them.

    Raises nothing; changes nothing.
    """
    everything: list[Leftover] = []
    with suppress(OSError):
        everything += _own_folders(models)
    for repository in hub_cache.repositories(root):
        with suppress(OSError):
            everything += [*_partials(repository), *_blobs(repository, keep)]
    return [leftover for leftover in everything if not _is_locked(leftover)]


def clear(leftover: Leftover) -> int:
    """Removes one of ``leftovers``. Returns the bytes freed. Raises ResourceError, also when it is in use."""
    if leftover.repository is not None and leftover.blob is not None:
        gone = () if leftover.kind is LeftoverKind.ORPHAN else leftover.paths
        return remove_pointers(leftover.repository, gone, leftover.blob)

    with locked_now(leftover.lock, leftover.name), disk.writing(leftover.paths[0].parent, leftover.name):
        for path in leftover.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if leftover.repository is not None:
            remove_empty(leftover.repository)
        else:
            with suppress(OSError):
                leftover.paths[0].parent.rmdir()
    return leftover.bytes


def _partials(repository: Repository) -> Iterator[Leftover]:
    """One for each file: what a transfer notes beside its bytes goes with them."""
    beside: dict[str, list[Path]] = {}
    for path in sorted((repository.folder / "blobs").glob("*.*")):
        if match := PARTIAL.fullmatch(path.name):
            beside.setdefault(match[1], []).append(path)
    for name, files in beside.items():
        if all(_may_be_model(file) for file in files if file.suffix in PARTS):
            lock = repository.lock(name)
            yield Leftover(LeftoverKind.PARTIAL, repository.repo, tuple(files), _bytes(files), lock, repository)


def _blobs(repository: Repository, keep: Collection[tuple[str, str]]) -> Iterator[Leftover]:
    """Orphans, and files of snapshots that no branch stands for, where one that a branch does stand for has the file
    of the same name."""
    snapshots = repository.folder / "snapshots"
    by_blob: dict[Path, list[Path]] = {}
    for pointer in pointers(repository):
        by_blob.setdefault(hub_cache.blob(pointer), []).append(pointer)
    blobs = repository.folder.resolve() / "blobs"
    for blob in sorted(blobs.glob("*")):
        if NAME.fullmatch(blob.name) and not blob.is_symlink() and blob not in by_blob and _may_be_model(blob):
            lock = repository.lock(blob.name)
            yield Leftover(LeftoverKind.ORPHAN, repository.repo, (blob,), _bytes([blob]), lock, repository, blob)
    live = {
        commit
        for commit in repository.commits()
        if hub_cache.refs(repository, commit) or (repository.repo, commit) in keep
    }
    live_files = {
        _file(pointer, snapshots)
        for pointed in by_blob.values()
        for pointer in pointed
        if _commit(pointer, snapshots) in live
    }
    for blob, pointed in by_blob.items():
        dead = all(
            _commit(pointer, snapshots) not in live and _file(pointer, snapshots) in live_files for pointer in pointed
        )
        if dead and all(file_names.has_ending(pointer.name) for pointer in pointed):
            lock = repository.lock(blob.name)
            yield Leftover(
                LeftoverKind.SUPERSEDED, repository.repo, tuple(pointed), _bytes([blob]), lock, repository, blob
            )


def _own_folders(models: Path) -> Iterator[Leftover]:
    """What a killed fetch from the package index, from an address, or out of a folder has left."""
    for folder in models.glob(f"{wheels.TEMPORARY}*"):
        package = models / folder.name.removeprefix(wheels.TEMPORARY).rpartition("-")[0]
        yield Leftover(LeftoverKind.PARTIAL, package.name, (folder,), _bytes([folder]), wheels.lock(models, package))
    files = bundles.place(models)
    for folder in files.glob(f"{bundles.TEMPORARY}*"):
        if folder.is_dir():
            yield Leftover(LeftoverKind.PARTIAL, "a copy", (folder,), _bytes([folder]), bundles.temporary_lock(folder))
    for path in (*models.glob("*/*.llmctl*"), *files.glob("*/**/*.llmctl*")):
        name = next((path.name.removesuffix(ending) for ending in UNFINISHED if path.name.endswith(ending)), None)
        if name is None:  # a file of the user's may be called nearly so
            continue
        top, below = path.relative_to(models).parts[:2]
        if top == files.name and SHA256.fullmatch(below):
            yield Leftover(LeftoverKind.PARTIAL, name, (path,), _bytes([path]), bundles.lock(models, below))
        elif requirement(models / top) is not None:
            yield Leftover(LeftoverKind.PARTIAL, name, (path,), _bytes([path]), wheels.lock(models, models / top))


def _commit(pointer: Path, snapshots: Path) -> str:
    return pointer.relative_to(snapshots).parts[0]


def _file(pointer: Path, snapshots: Path) -> str:
    return pointer.relative_to(snapshots).as_posix().partition("/")[2]


def _may_be_model(file: Path) -> bool:
    """Whether a file may be a model, or the beginning of one."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) in FIRST_BYTES
    except OSError:
        return False


def _bytes(paths: Sequence[Path]) -> int:
    """Disk space in use: a file with holes takes less than its length."""
    total = 0
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            with suppress(OSError):
                status = file.lstat()
                blocks = getattr(status, "st_blocks", None)
                total += status.st_size if blocks is None else min(status.st_size, blocks * 512)
    return total


def _is_locked(leftover: Leftover) -> bool:
    """Whether a process has the lock now. A lock that was never made is not made for this question."""
    if not leftover.lock.exists():
        return False
    try:
        with locked_now(leftover.lock, leftover.name):
            return False
    except ResourceError:
        return True
