"""Copies a model from the store into a folder, and from such a folder into the store of another machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import ConfigError, IntegrityError, LlmctlError
from llmctl.files import disk
from llmctl.files.lock import locked
from llmctl.files.progress import shifted
from llmctl.gguf import file_names
from llmctl.store import bundles, hub_cache, manifest, unvouched
from llmctl.store.copy import copied, hashed
from llmctl.store.layout import COMMIT, Repository, parts, wheel_folder
from llmctl.store.manifest import Bundle, Member, Origin
from llmctl.store.stored import Stored
from llmctl.transfer.partial_file import noted_bytes
from llmctl.types.listener import Progress
from llmctl.types.model import Source, SourceKind


class Label(Struct, frozen=True):
    """The name of a model in a manifest, for people and for ``pull --from DIR NAME``."""

    name: str
    quant: str
    licence: str | None = None

    @property
    def reference(self) -> str:
        """What a person types to mean it."""
        return f"{self.name}:{self.quant}"


def carry(root: Path, models: Path, files: Sequence[Stored], label: Label, into: Path, progress: Progress) -> Path:
    """Copies the ``files`` of one model, the first to open first, into a folder of its own below ``into``.

    ``root`` is the hub cache, ``models`` where llmctl keeps its own. What is known of their sha256 is checked on the
    way, and an interrupted call is resumed. Returns the folder. Raises IntegrityError, AccessError,
    ResourceError.
    """
    members = tuple(Member(_file(file, label), file.bytes, file.source.sha256 or "") for file in files)
    bundle = replace(_origin(root, files[0]), name=manifest.cleaned(label.name), quant=manifest.cleaned(label.quant))
    bundle = replace(bundle, files=members, licence=label.licence and manifest.cleaned(label.licence))
    folder = _folder(into, label)
    with locked(_lock(models, folder), waiting=lambda: progress(0, bundle.bytes)):
        if _is_carried(folder, bundle):
            return folder
        disk.require_room(into, _missing_bytes(folder, members), label.name)
        done_bytes, checked = 0, []
        for file, member in zip(files, members, strict=True):
            part = shifted(progress, done_bytes, bundle.bytes)
            checked.append(replace(member, sha256=_copy_unless_there(file, folder, member, part)))
            done_bytes += file.bytes
        manifest.write(folder, replace(bundle, files=tuple(checked)))
    return folder


def missing_bytes(files: Sequence[Source], label: Label, into: Path) -> int:
    """What ``carry`` will write to ``into`` of files that are yet to be fetched, as far as their sizes are known."""
    members = []
    for file in files:
        name = file.file if file.kind is SourceKind.HUB else PurePosixPath(file.file).name
        members.append(Member(name, file.bytes or 0, file.sha256 or ""))
    return _missing_bytes(_folder(into, label), members)


def take(root: Path, models: Path, folder: Path, progress: Progress) -> list[Path]:
    """Brings the model in ``folder`` to where it would be had it been fetched. Returns the paths, the first to open
    first.

    Raises NotFoundError (there is none), IntegrityError (its manifest or a file is wrong; nothing wrong is kept),
    AccessError, ResourceError.
    """
    bundle = manifest.read(folder)
    for member in bundle.files:
        if manifest.file_of(folder, member) is None:
            raise IntegrityError(
                f"{folder / member.file} is missing, or hasn't the {member.bytes:,} bytes of {manifest.MANIFEST}",
                hint="copy the folder again, all of it",
            )
    match bundle.origin:
        case Origin.HUB:
            paths = _into_hub_cache(root, folder, bundle, progress)
            for member in bundle.files:
                unvouched.record(models, member.sha256)
            return paths
        case Origin.PACKAGE_INDEX:
            try:
                where = wheel_folder(models, bundle.place)
            except ConfigError as error:
                raise IntegrityError(f"{folder / manifest.MANIFEST}: {error.message}", hint=manifest.ANEW) from error
            return _copy_into(where, models / f".{where.name}.lock", folder, bundle, progress)
    bundle = replace(bundle, origin=Origin.FILE)  # an address that a folder states is not verified
    sha256 = bundle.files[0].sha256
    return _copy_into(
        bundles.folder(models, sha256), bundles.lock(models, sha256), folder, bundle, progress, bundles.write_manifest
    )


def _into_hub_cache(root: Path, folder: Path, bundle: Bundle, progress: Progress) -> list[Path]:
    repository, commit = Repository(root, bundle.place), bundle.revision or ""
    pointers = [repository.pointer(commit, member.file) for member in bundle.files]
    refs = [ref for ref in bundle.refs if not repository.ref(ref).exists()]
    blobs = [repository.blob(member.sha256) for member in bundle.files]
    disk.require_room(root, _missing(blobs, bundle.files), bundle.name)
    done_bytes = 0
    for member, pointer, blob in zip(bundle.files, pointers, blobs, strict=True):
        part = shifted(progress, done_bytes, bundle.bytes)
        with locked(repository.lock(member.sha256), waiting=partial(progress, done_bytes, bundle.bytes)):
            if not _is_whole(blob, member):
                copied(folder / member.file, blob, sha256=member.sha256, progress=part)
            hub_cache.link(pointer, blob)
        done_bytes += member.bytes
    for ref in refs:
        hub_cache.write_ref(repository, ref, commit)
    return pointers


def _copy_into(
    where: Path,
    lock: Path,
    folder: Path,
    bundle: Bundle,
    progress: Progress,
    note: Callable[[Path, Bundle], Bundle] | None = None,
) -> list[Path]:
    """The files by their plain names; those that are there with the same size stay. ``note`` writes down what they
    are where the place itself doesn't tell."""
    targets = [where.joinpath(*parts(member.file, "the file's name")) for member in bundle.files]
    done_bytes = 0
    with locked(lock, waiting=lambda: progress(0, bundle.bytes)):
        disk.require_room(where, _missing(targets, bundle.files), bundle.name)
        for member, target in zip(bundle.files, targets, strict=True):
            part = shifted(progress, done_bytes, bundle.bytes)
            if not _is_whole(target, member):
                copied(folder / member.file, target, sha256=member.sha256, progress=part)
            done_bytes += member.bytes
        if note is not None:
            note(where, bundle)
    return targets


def _is_whole(target: Path, member: Member) -> bool:
    return target.is_file() and target.stat().st_size == member.bytes


def _missing(targets: Sequence[Path], members: Sequence[Member]) -> int:
    """What copying ``members`` to ``targets`` will write: less what is there, and what earlier tries have left."""
    return sum(
        max(0, member.bytes - noted_bytes(target))
        for target, member in zip(targets, members, strict=True)
        if not _is_whole(target, member)
    )


def _missing_bytes(folder: Path, members: Sequence[Member]) -> int:
    return _missing([folder.joinpath(*parts(member.file, "the file's name")) for member in members], members)


def _folder(into: Path, label: Label) -> Path:
    return into / manifest.folder_name(label.name, label.quant)


def _lock(models: Path, folder: Path) -> Path:
    """On this machine, and not on the stick: not every filesystem of a stick has locks."""
    return models / f".to-{hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]}.lock"


def _copy_unless_there(file: Stored, folder: Path, member: Member, progress: Progress) -> str:
    """One file into ``folder``, unless an earlier call has brought it there. Returns its sha256."""
    present = manifest.file_of(folder, member)
    if present is not None and member.sha256 and hashed(present, progress) == member.sha256:
        return member.sha256
    target = folder.joinpath(*parts(member.file, "the file's name"))
    return copied(file.path, target, sha256=file.source.sha256, progress=progress)


def _origin(root: Path, first: Stored) -> Bundle:
    """A bundle with its origin alone."""
    source = first.source
    if source.kind is SourceKind.HUB and source.repo is not None and COMMIT.fullmatch(source.revision):
        refs = tuple(hub_cache.refs(Repository(root, source.repo), source.revision))
        return Bundle("", "", Origin.HUB, source.repo, (), source.revision, refs)
    if source.kind is SourceKind.PACKAGE_INDEX and source.repo is not None:
        return Bundle("", "", Origin.PACKAGE_INDEX, source.repo, ())
    return Bundle("", "", Origin.FILE, manifest.cleaned(str(first.path)), ())


def _file(stored: Stored, label: Label) -> str:
    """The path in the repository, or the file's name; the name of a blob of ollama is only a hash."""
    source = stored.source
    if source.kind is SourceKind.HUB and COMMIT.fullmatch(source.revision):
        return source.file
    if file_names.has_ending(stored.path.name):
        return stored.path.name
    name = manifest.folder_name(label.name, label.quant)
    return f"{'mmproj-' if stored.projector else ''}{name}.gguf"


def _is_carried(folder: Path, bundle: Bundle) -> bool:
    """Whether an earlier call has left the same in ``folder``, and all of it is there."""
    try:
        earlier = manifest.read(folder)
    except LlmctlError:
        return False
    names = [(member.file, member.bytes) for member in bundle.files]
    same = [(member.file, member.bytes) for member in earlier.files] == names
    hashes_fit = all(new.sha256 in ("", old.sha256) for new, old in zip(bundle.files, earlier.files, strict=False))
    whole = all(manifest.file_of(folder, member) is not None for member in earlier.files)
    return same and hashes_fit and whole and earlier.origin is bundle.origin
