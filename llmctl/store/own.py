"""Models that llmctl keeps for itself, since no other tool has a place for them: from an address, or the user's own.

Each is a bundle (``bundle.py``) in ``<models>/files/<sha256 of its first file>/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmctl.store import bundle, disk
from llmctl.store.bundle import Bundle, Member, Origin
from llmctl.store.copying import copied, hashed, size_of
from llmctl.store.layout import SHA256, parts
from llmctl.store.lock import locked
from llmctl.store.names import is_projector
from llmctl.store.progress import Progress
from llmctl.store.several import shifted
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Source, SourceKind

TEMPORARY = ".adding-"


def place(models: Path) -> Path:
    return models / "files"


def folder(models: Path, sha256: str) -> Path:
    return place(models) / sha256


def sources(models: Path) -> Iterator[Stored]:
    """Every file of every bundle, as far as it is there with its size."""
    for where, one in bundle.found(place(models)):
        if SHA256.fullmatch(where.name):
            yield from stored(where, one)


def stored(where: Path, one: Bundle) -> Iterator[Stored]:
    for member in one.files:
        if (path := bundle.file_of(where, member)) is not None:
            source = Source(SourceKind.LOCAL, None, str(path), member.bytes, member.sha256)
            yield Stored(path, member.bytes, source, Owner.LLMCTL, one.name, is_projector(member.file))


def add(
    models: Path, files: Sequence[Path], *, name: str, quant: str, sha256: str | None, progress: Progress
) -> list[Stored]:
    """Copies the ``files`` of one model, the first to open first, and returns them as they are kept.

    ``sha256`` is what the first must have, if that is known. A model that is kept already is only read.
    Raises NotFoundError, AccessError, IntegrityError, ResourceError.
    """
    for file in files:
        parts(file.name, "the file's name")  # it must be one on every system that the model may be carried to
    sizes = [size_of(file) for file in files]
    if (known := _kept(models, files[0], sizes[0])) is not None:
        found = hashed(files[0], progress)
        if found == known.parent.name and sha256 in (None, found):
            return list(stored(known.parent, bundle.read(known.parent)))
    with locked(place(models) / ".lock", waiting=lambda: progress(0, None)):
        disk.require_room(place(models), sum(sizes), name)
        with disk.writing(place(models), name), _temporary(place(models)) as beside:
            members = []
            for at, (file, size) in enumerate(zip(files, sizes, strict=True)):
                part = shifted(progress, sum(sizes[:at]), sum(sizes))
                wanted = None if at else sha256
                found = copied(file, beside / file.name, sha256=wanted, progress=part)
                members.append(Member(file.name, size, found))
            made = Bundle(name, quant, Origin.FILE, bundle.shown(str(files[0].absolute())), tuple(members))
            bundle.write(beside, made)
            target = folder(models, members[0].sha256)
            old = place(models) / f"{TEMPORARY}{os.urandom(4).hex()}"
            if target.exists():  # the same under another name, or left over: what was just checked takes its place
                target.replace(old)
            beside.replace(target)
            disk.sync_folder(target.parent)
            shutil.rmtree(old, ignore_errors=True)
    return list(stored(target, made))


def remove(models: Path, path: Path) -> int:
    """Removes the file, and its bundle with the last one. Returns the bytes that this frees. Raises ResourceError."""
    where = next(parent for parent in path.parents if parent.parent == place(models))
    with locked(place(models) / ".lock", waiting=lambda: None), disk.writing(where, path.name):
        size = path.stat().st_size
        path.unlink()
        if not any(file.suffix == ".gguf" for file in where.rglob("*")):
            shutil.rmtree(where)
    return size


def _kept(models: Path, file: Path, size: int) -> Path | None:
    same = (one.path for one in sources(models) if one.path.name == file.name and one.bytes == size)
    return next(same, None)


@contextmanager
def _temporary(where: Path) -> Iterator[Path]:
    """A folder on the store's own filesystem. Called under the lock, so what a killed process left can go."""
    for left in where.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
    beside = where / f"{TEMPORARY}{os.urandom(4).hex()}"
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
