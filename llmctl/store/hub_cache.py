"""Looking into the hub cache, and adding to it. No network."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from llmctl.errors import IntegrityError, LlmctlError
from llmctl.files import atomic, disk
from llmctl.gguf.file_names import ANY_CASE
from llmctl.gguf.header import read_file
from llmctl.store.layout import COMMIT, SHA256, Repository
from llmctl.types.model import Source, SourceKind

# What systems say where a filesystem has no symlinks, or where Windows lets a user make none: ERROR_PRIVILEGE_NOT_HELD
NO_SYMLINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
NOT_PRIVILEGED = 1314


class Unfinished(Struct, frozen=True):
    """An interrupted download. ``name`` is the repository's; ``idle_s`` the seconds since its last byte."""

    path: Path
    name: str
    bytes: int
    idle_s: float


def find(root: Path, source: Source) -> Path | None:
    """The path in a snapshot under which ``source`` is in the cache at ``root``, or None.

    The snapshot of the wanted revision comes first. Another one serves as well where the file is the same by its
    sha256, or where the revision is a branch: a file that is here is worth more than the newest one that isn't.
    """
    assert source.repo is not None
    repository = Repository(root, source.repo)
    revision_commit = repository.commit(source.revision)
    exact = source.sha256 is None and COMMIT.fullmatch(source.revision) is not None
    commits = [revision_commit] if revision_commit is not None else []
    commits += [] if exact else [commit for commit in repository.commits() if commit != revision_commit]
    pointers = (repository.pointer(commit, source.file) for commit in commits)
    return next((pointer for pointer in pointers if _is_copy_of(pointer, source, repository)), None)


def _is_copy_of(pointer: Path, source: Source, repository: Repository) -> bool:
    """Whether ``pointer`` leads to the bytes of ``source``, inside the cache, as far as can be told without hashing."""
    try:
        payload = pointer.resolve(strict=True)
        size_bytes = payload.stat().st_size
        if not payload.is_file() or not _inside(payload, repository):
            return False
    except (OSError, RuntimeError):  # RuntimeError: symlinks in a circle
        return False
    name = blob(pointer).name
    named = SHA256.fullmatch(name) is not None
    if source.sha256 is not None and named and name != source.sha256:
        return False
    if source.bytes is None or size_bytes == source.bytes:
        return True
    if source.sha256 is not None and not named:
        return False
    try:  # a catalogue's size may be out of date; the header tells whether a file is whole
        read_file(payload)
    except LlmctlError:
        return False
    return True


def _inside(payload: Path, repository: Repository) -> bool:
    """Folders that the user has put on another disk count as inside; a file that points out of them doesn't."""
    return any(payload.is_relative_to(place.resolve()) for place in (repository.root, repository.folder))


def blob(pointer: Path) -> Path:
    """The entry of ``blobs`` that a pointer leads to: its name is the hub's hash of the bytes, a sha256 for all but
    small files. The pointer itself where the filesystem has no symlinks.

    The bytes may lie still further: the hub's newer tools keep them in a folder that all repositories share, under
    names that are other hashes (huggingface_hub 2.4, utils/_shared_blobs.py).
    """
    try:
        return Path(os.path.normpath(pointer.parent.resolve() / pointer.readlink()))
    except OSError:
        return pointer


def sources(root: Path) -> Iterator[tuple[Path, Source]]:
    """Every GGUF file in the cache at ``root``, each once whatever the number of snapshots that have it, with what is
    known of it."""
    seen = set()
    for repository, commit, pointer in _pointers(root):
        file = pointer.relative_to(repository.folder / "snapshots" / commit).as_posix()
        if not _is_copy_of(pointer, Source(SourceKind.HUB, repository.repo, file), repository):
            continue
        entry = blob(pointer)
        if (entry, file) not in seen:
            seen.add((entry, file))
            sha256 = entry.name if SHA256.fullmatch(entry.name) else None
            yield pointer, Source(SourceKind.HUB, repository.repo, file, pointer.stat().st_size, sha256, commit)


def unfinished(root: Path) -> Iterator[Unfinished]:
    """What interrupted downloads have left."""
    now = time.time()
    for path in sorted(root.glob("models--*/blobs/*.incomplete")):
        try:
            status = path.lstat()
        except OSError:
            continue  # it was finished just now
        repo = "/".join(path.parent.parent.name.split("--", 2)[1:])
        used_bytes = min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512)  # there may be holes in it
        yield Unfinished(path, repo, used_bytes, max(0.0, now - status.st_mtime))


def refs(repository: Repository, commit: str) -> list[str]:
    """The branches and tags that stand for ``commit`` as far as the cache knows."""
    folder = repository.folder / "refs"
    names = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError, IntegrityError):  # vanished; or a name that only another system can have
            name = path.relative_to(folder).as_posix()
            if path.is_file() and repository.commit(name) == commit:
                names.append(name)
    return names


def repositories(root: Path) -> Iterator[Repository]:
    for folder in sorted(root.glob("models--*")):
        with suppress(IntegrityError):  # no tool of the hub names a folder so
            yield Repository(root, "/".join(folder.name.split("--", 2)[1:]))


def _pointers(root: Path) -> Iterator[tuple[Repository, str, Path]]:
    for repository in repositories(root):
        for commit in repository.commits():
            for pointer in sorted((repository.folder / "snapshots" / commit).rglob(ANY_CASE)):
                yield repository, commit, pointer


def link(pointer: Path, target: Path) -> None:
    """Makes ``pointer`` in a snapshot lead to ``target``, a blob.

    On filesystems without symlinks the bytes themselves move there, as the hub's own tools do it. Raises ResourceError.
    """
    with disk.writing(pointer.parent, pointer.name):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        beside = pointer.with_name(f".{os.urandom(4).hex()}.new")
        try:
            beside.symlink_to(os.path.relpath(target, pointer.parent))
        except OSError as error:
            if error.errno not in NO_SYMLINKS and getattr(error, "winerror", None) != NOT_PRIVILEGED:
                raise
            target.replace(pointer)
        else:
            beside.replace(pointer)


def write_ref(repository: Repository, revision: str, commit: str) -> None:
    """Notes which commit a branch or tag stands for. Raises ResourceError."""
    if revision == commit or repository.commit(revision) == commit:
        return
    ref = repository.ref(revision)
    with disk.writing(ref.parent, f"refs/{revision}"):
        atomic.write(ref, commit.encode(), mode=atomic.SHARED)
