"""Models that llmctl keeps for itself, since no other tool has a place for them: from an address, or the user's own.

Each is a bundle (``manifest.py``) in ``<models>/files/<sha256 of its first file>/``, written under its
``lock``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.files import disk
from llmctl.files.lock import locked, locked_now
from llmctl.files.progress import shifted
from llmctl.files.temporary import temporary_folder
from llmctl.gguf.file_names import has_ending, is_projector
from llmctl.store import manifest
from llmctl.store.layout import SHA256, parts
from llmctl.store.manifest import Bundle, Member, Origin
from llmctl.store.stored import Owner, Stored
from llmctl.types.listener import Progress
from llmctl.types.model import Source, SourceKind

TEMPORARY = ".adding-"


def place(models: Path) -> Path:
    return models / "files"


def folder(models: Path, sha256: str) -> Path:
    return place(models) / sha256


def lock(models: Path, sha256: str) -> Path:
    """The lock of ``folder``."""
    return place(models) / f".{sha256}.lock"


def sources(models: Path) -> Iterator[Stored]:
    """Every file of every bundle, as far as it is there with its size."""
    for where, bundle in _bundles(models):
        yield from stored(where, bundle)


def stored(where: Path, bundle: Bundle) -> Iterator[Stored]:
    for member in bundle.files:
        if (path := manifest.file_of(where, member)) is not None:
            source = Source(SourceKind.LOCAL, None, str(path), member.bytes, member.sha256)
            vouched = bundle.origin is Origin.ADDRESS  # with the sha256 that the user got elsewhere
            yield Stored(path, member.bytes, source, Owner.LLMCTL, bundle.name, is_projector(member.file), vouched)


def add(
    models: Path, files: Sequence[Path], *, name: str, quant: str, sha256: str | None, progress: Progress
) -> list[Stored]:
    """Copies the ``files`` of one model, the first to open first, and returns them as they are kept.

    ``sha256`` is what the first must have, if that is known. A model that is kept already, all its files, is only read.
    Raises NotFoundError, AccessError, IntegrityError, ResourceError.
    """
    from llmctl.store.copy import copied, size_of

    for file in files:
        parts(file.name, "the file's name")  # it must be one on every system that the model may be carried to
    sizes = [size_of(file) for file in files]
    beside = place(models) / f"{TEMPORARY}{hashlib.sha256(os.fsencode(files[0].absolute())).hexdigest()[:16]}"
    with locked(temporary_lock(beside), waiting=lambda: progress(0, None)):
        if (kept_bundle := _existing(models, files, sizes, sha256, progress)) is not None:
            return list(stored(*kept_bundle))
        disk.require_room(place(models), sum(sizes), name)
        with disk.writing(place(models), name), temporary_folder(beside):
            members = []
            for at, (file, size) in enumerate(zip(files, sizes, strict=True)):
                part = shifted(progress, sum(sizes[:at]), sum(sizes))
                expected = None if at else sha256
                digest = copied(file, beside / file.name, sha256=expected, progress=part)
                members.append(Member(file.name, size, digest))
            bundle = Bundle(name, quant, Origin.FILE, manifest.cleaned(str(files[0].absolute())), tuple(members))
            target = folder(models, members[0].sha256)
            with locked(lock(models, target.name), waiting=lambda: progress(sum(sizes), sum(sizes))):
                target.mkdir(exist_ok=True)
                for member in members:
                    (beside / member.file).replace(target / member.file)
                return list(stored(target, write_manifest(target, bundle)))


def write_manifest(where: Path, bundle: Bundle) -> Bundle:
    """Writes the manifest of ``where``, whose files are there and whose lock the caller holds.

    What was there under other names stays in it, unless it is the same bytes: those go. Returns what there is now.
    """
    try:
        before = manifest.read(where).files
    except (NotFoundError, IntegrityError):
        before = ()
    names, hashes = {member.file for member in bundle.files}, {member.sha256 for member in bundle.files}
    others = [member for member in before if member.file not in names]
    stay = [member for member in others if member.sha256 not in hashes and manifest.file_of(where, member) is not None]
    bundle = replace(bundle, files=(*bundle.files, *stay))
    manifest.write(where, bundle)
    for member in others:
        if member not in stay:
            where.joinpath(*parts(member.file, "the file's name")).unlink(missing_ok=True)
    return bundle


def remove(models: Path, path: Path) -> int:
    """Removes the file, and its bundle with the last one. Returns the bytes that this frees. Raises ResourceError."""
    where = next(parent for parent in path.parents if parent.parent == place(models))
    with locked_now(lock(models, where.name), path.name), disk.writing(where, path.name):
        size = path.stat().st_size
        path.unlink()
        if not any(has_ending(file.name) for file in where.rglob("*")):
            shutil.rmtree(where)
    return size


def temporary_lock(beside: Path) -> Path:
    return beside.with_name(f"{beside.name}.lock")


def _bundles(models: Path) -> Iterator[tuple[Path, Bundle]]:
    return ((where, bundle) for where, bundle in manifest.bundles(place(models)) if SHA256.fullmatch(where.name))


def _existing(
    models: Path, files: Sequence[Path], sizes: Sequence[int], sha256: str | None, progress: Progress
) -> tuple[Path, Bundle] | None:
    """The bundle that has all of ``files``, which are read only if there is one of their names and sizes."""
    names_and_sizes = {(file.name, size) for file, size in zip(files, sizes, strict=True)}
    like = []
    for where, bundle in _bundles(models):
        if names_and_sizes <= {(file.path.name, file.bytes) for file in stored(where, bundle)}:
            like.append((where, bundle))
    if not like:
        return None
    from llmctl.store.copy import hashed

    content = {
        (file.name, hashed(file, shifted(progress, sum(sizes[:at]), sum(sizes)))) for at, file in enumerate(files)
    }
    for where, bundle in like:
        same = content <= {(member.file, member.sha256) for member in bundle.files}
        if same and (files[0].name, where.name) in content and sha256 in (None, where.name):
            return where, bundle
    return None
