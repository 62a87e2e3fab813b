"""A model out of the store into a folder, and out of such a folder into the store of another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from llmctl.errors import ConfigError, IntegrityError, LlmctlError
from llmctl.store import bundle, disk, hub_cache, own
from llmctl.store.bundle import Bundle, Member, Origin
from llmctl.store.copying import copied
from llmctl.store.layout import COMMIT, Repository, parts, wheel_folder
from llmctl.store.lock import locked
from llmctl.store.progress import Progress
from llmctl.store.several import shifted
from llmctl.store.stored import Stored
from llmctl.types.model import SourceKind


@dataclass(frozen=True, slots=True)
class Label:
    """What a manifest says of a model beside its files, for people and for ``pull --from DIR NAME``."""

    name: str
    quant: str
    licence: str | None = None


def carry(root: Path, files: Sequence[Stored], label: Label, into: Path, progress: Progress) -> tuple[Path, Bundle]:
    """Copies the ``files`` of one model, the first to open first, into a folder of its own below ``into``.

    ``root`` is the hub cache. What is known of their sha256 is checked on the way. Returns the folder and what is in
    it. Raises IntegrityError, AccessError, ResourceError.
    """
    members = tuple(Member(_file(file, label), file.bytes, file.source.sha256 or "") for file in files)
    made = replace(_origin(root, files[0]), name=bundle.shown(label.name), quant=bundle.shown(label.quant))
    made = replace(made, files=members, licence=label.licence and bundle.shown(label.licence))
    folder = into / bundle.folder_name(made)
    if (there := _there(folder, made)) is not None:
        return folder, there
    disk.require_room(into, made.bytes, label.name)
    done_bytes, checked = 0, []
    for file, member in zip(files, members, strict=True):
        target = folder.joinpath(*parts(member.file, "the file's name"))
        part = shifted(progress, done_bytes, made.bytes)
        checked.append(replace(member, sha256=copied(file.path, target, sha256=file.source.sha256, progress=part)))
        done_bytes += file.bytes
    made = replace(made, files=tuple(checked))
    bundle.write(folder, made)
    return folder, made


def take(root: Path, models: Path, folder: Path, progress: Progress) -> list[Path]:
    """Brings the model in ``folder`` to where it would be had it been fetched. Returns the paths, the first to open
    first.

    Raises NotFoundError (there is none), IntegrityError (its manifest or a file is wrong; nothing wrong is kept),
    AccessError, ResourceError.
    """
    made = bundle.read(folder)
    for member in made.files:
        if bundle.file_of(folder, member) is None:
            raise IntegrityError(
                f"{folder / member.file} is missing, or hasn't the {member.bytes:,} bytes that {bundle.MANIFEST} says",
                hint="copy the folder again, all of it",
            )
    match made.origin:
        case Origin.HUB:
            return _into_hub_cache(root, folder, made, progress)
        case Origin.PACKAGE_INDEX:
            try:
                where = wheel_folder(models, made.place)
            except ConfigError as error:
                raise IntegrityError(f"{folder / bundle.MANIFEST}: {error.message}") from error
            return _into(where, models / f".{where.name}.lock", folder, made, progress)
    where = own.folder(models, made.files[0].sha256)
    paths = _into(where, own.place(models) / ".lock", folder, made, progress)
    bundle.write(where, made)
    return paths


def _into_hub_cache(root: Path, folder: Path, made: Bundle, progress: Progress) -> list[Path]:
    repository, commit = Repository(root, made.place), made.revision or ""
    pointers = [repository.pointer(commit, member.file) for member in made.files]
    refs = [ref for ref in made.refs if not repository.ref(ref).exists()]
    disk.require_room(root, made.bytes, made.name)
    done_bytes = 0
    for member, pointer in zip(made.files, pointers, strict=True):
        part = shifted(progress, done_bytes, made.bytes)
        blob = repository.blob(member.sha256)
        with locked(repository.lock(member.sha256), waiting=partial(progress, done_bytes, made.bytes)):
            if not (blob.is_file() and blob.stat().st_size == member.bytes):
                copied(folder / member.file, blob, sha256=member.sha256, progress=part)
            hub_cache.link(pointer, blob)
        done_bytes += member.bytes
    for ref in refs:
        hub_cache.remember(repository, ref, commit)
    return pointers


def _into(where: Path, lock: Path, folder: Path, made: Bundle, progress: Progress) -> list[Path]:
    """The files by their plain names; those that are there with the same size stay."""
    disk.require_room(where, made.bytes, made.name)
    done_bytes, paths = 0, []
    with locked(lock, waiting=lambda: progress(0, made.bytes)):
        for member in made.files:
            target = where.joinpath(*parts(member.file, "the file's name"))
            part = shifted(progress, done_bytes, made.bytes)
            if not (target.is_file() and target.stat().st_size == member.bytes):
                copied(folder / member.file, target, sha256=member.sha256, progress=part)
            done_bytes += member.bytes
            paths.append(target)
    return paths


def _origin(root: Path, first: Stored) -> Bundle:
    """A bundle that says where its files are from, and nothing else yet."""
    source = first.source
    if source.kind is SourceKind.HUB and source.repo is not None and COMMIT.fullmatch(source.revision):
        refs = tuple(hub_cache.refs(Repository(root, source.repo), source.revision))
        return Bundle("", "", Origin.HUB, source.repo, (), source.revision, refs)
    if source.kind is SourceKind.PACKAGE_INDEX and source.repo is not None:
        return Bundle("", "", Origin.PACKAGE_INDEX, source.repo, ())
    return Bundle("", "", Origin.FILE, bundle.shown(str(first.path)), ())


def _file(stored: Stored, label: Label) -> str:
    """The path in the repository, or the file's name; a blob of ollama has none that says anything."""
    source = stored.source
    if source.kind is SourceKind.HUB and COMMIT.fullmatch(source.revision):
        return source.file
    if stored.path.suffix == ".gguf":
        return stored.path.name
    name = bundle.folder_name(Bundle(label.name, label.quant, Origin.FILE, "", ()))
    return f"{'mmproj-' if stored.projector else ''}{name}.gguf"


def _there(folder: Path, made: Bundle) -> Bundle | None:
    """What an earlier call has left in ``folder``, if it is the same and all of it is there."""
    try:
        there = bundle.read(folder)
    except LlmctlError:
        return None
    same = [(one.file, one.bytes) for one in there.files] == [(one.file, one.bytes) for one in made.files]
    known = all(new.sha256 in ("", old.sha256) for new, old in zip(made.files, there.files, strict=False))
    whole = all(bundle.file_of(folder, member) is not None for member in there.files)
    return there if same and known and whole and there.origin is made.origin else None
