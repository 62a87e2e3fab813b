"""Looking into the hub cache, and adding to it. No network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from llmctl.errors import IntegrityError, LlmctlError
from llmctl.gguf.header import read_file
from llmctl.store import disk
from llmctl.store.layout import COMMIT, SHA256, Repository
from llmctl.types.model import Source, SourceKind


def find(root: Path, source: Source) -> Path | None:
    """The path in a snapshot under which ``source`` is in the cache at ``root``, or None.

    The snapshot of the wanted revision comes first. Another one serves as well where the file is the same by its
    sha256, or where the revision is a branch: a file that is here is worth more than the newest one that isn't.
    """
    assert source.repo is not None
    repository = Repository(root, source.repo)
    wanted = repository.commit(source.revision)
    exact = source.sha256 is None and COMMIT.fullmatch(source.revision) is not None
    commits = [wanted] if wanted is not None else []
    commits += [] if exact else [commit for commit in repository.commits() if commit != wanted]
    pointers = (repository.pointer(commit, source.file) for commit in commits)
    return next((pointer for pointer in pointers if _is(pointer, source, repository)), None)


def _is(pointer: Path, source: Source, repository: Repository) -> bool:
    """Whether ``pointer`` leads to the bytes of ``source``, inside the cache, as far as can be told without hashing."""
    try:
        blob = pointer.resolve(strict=True)
        size_bytes = blob.stat().st_size
        if not blob.is_file() or not _inside(blob, repository):
            return False
    except (OSError, RuntimeError):  # RuntimeError: symlinks in a circle
        return False
    named = SHA256.fullmatch(blob.name) is not None
    if source.sha256 is not None and named and blob.name != source.sha256:
        return False
    if source.bytes is None or size_bytes == source.bytes:
        return True
    if source.sha256 is not None and not named:
        return False
    try:  # a catalogue's size may be out of date; whether a file is whole, it tells itself
        read_file(blob)
    except LlmctlError:
        return False
    return True


def _inside(blob: Path, repository: Repository) -> bool:
    """Folders that the user has put on another disk count as inside; a file that points out of them doesn't."""
    return any(blob.is_relative_to(place.resolve()) for place in (repository.root, repository.folder))


def sources(root: Path) -> Iterator[tuple[Path, Source]]:
    """Every GGUF file in the cache at ``root``, each once, with what is known of it."""
    seen = set()
    for repository, commit, pointer in _pointers(root):
        file = pointer.relative_to(repository.folder / "snapshots" / commit).as_posix()
        if not _is(pointer, Source(SourceKind.HUB, repository.repo, file), repository):
            continue
        blob = pointer.resolve()
        if blob not in seen:
            seen.add(blob)
            sha256 = blob.name if SHA256.fullmatch(blob.name) else None
            yield pointer, Source(SourceKind.HUB, repository.repo, file, blob.stat().st_size, sha256, commit)


def unfinished(root: Path) -> Iterator[tuple[Path, str, int, float]]:
    """Path, repository, bytes and seconds since the last byte of what broken downloads have left."""
    now = time.time()
    for path in sorted(root.glob("models--*/blobs/*.incomplete")):
        try:
            told = path.lstat()
        except OSError:
            continue  # it was finished just now
        repo = "/".join(path.parent.parent.name.split("--", 2)[1:])
        yield path, repo, told.st_size, max(0.0, now - told.st_mtime)


def _pointers(root: Path) -> Iterator[tuple[Repository, str, Path]]:
    for folder in sorted(root.glob("models--*")):
        try:
            repository = Repository(root, "/".join(folder.name.split("--", 2)[1:]))
        except IntegrityError:
            continue  # no tool of the hub names a folder so
        for commit in repository.commits():
            for pointer in sorted((repository.folder / "snapshots" / commit).rglob("*.gguf")):
                yield repository, commit, pointer


def link(pointer: Path, blob: Path) -> None:
    """Makes ``pointer`` in a snapshot lead to ``blob``.

    On filesystems without symlinks the bytes themselves move there, as the hub's own tools do it. Raises ResourceError.
    """
    with disk.writing(pointer.parent, pointer.name):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        beside = pointer.with_name(f".{os.urandom(4).hex()}.new")
        try:
            beside.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:
            blob.replace(pointer)
        else:
            beside.replace(pointer)


def remember(repository: Repository, revision: str, commit: str) -> None:
    """Notes which commit a branch or tag stands for. Raises ResourceError."""
    if revision == commit or repository.commit(revision) == commit:
        return
    ref = repository.ref(revision)
    with disk.writing(ref.parent, f"refs/{revision}"):
        ref.parent.mkdir(parents=True, exist_ok=True)
        beside = ref.with_name(f".{os.urandom(4).hex()}.new")
        beside.write_text(commit, "ascii")
        beside.replace(ref)
