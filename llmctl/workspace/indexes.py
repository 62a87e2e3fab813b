"""The indexes that there are: by their names, or by the folders that they are of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.errors import AccessError, LlmctlError, NotFoundError, ResourceError, UsageError
from llmctl.files.lock import locked
from llmctl.printable import printable
from llmctl.retrieval.text_index import TextIndex
from llmctl.shell import command

NAME, ROOT = "name", "root"
SUFFIX = ".sqlite"
NAME_CHARACTERS = 60


class NamedIndex(Struct, frozen=True):
    """``root`` is the folder that the index ``file`` is of."""

    name: str
    root: Path
    file: Path

    def opened(self) -> TextIndex:
        """Raises what ``TextIndex.open`` raises."""
        return TextIndex.open(self.file)


def folder() -> Path:
    return paths.data_dir() / "indexes"


def readable() -> tuple[tuple[NamedIndex, ...], list[LlmctlError]]:
    """The indexes that there are, by name, and why others can't be read. One that was never begun is left out."""
    made: list[NamedIndex] = []
    broken: list[LlmctlError] = []
    for file in _files():
        try:
            index = _read(file)
        except LlmctlError as error:
            broken.append(error)
        else:
            made += [] if index is None else [index]
    return tuple(sorted(made, key=lambda index: index.name)), broken


def find(name: str) -> NamedIndex | None:
    """The index that is called ``name``, or that of the folder ``name``. Raises IntegrityError for one that is broken,
    and where no other has the name."""
    file = file_of(real(name))
    if file.exists() and (index := _read(file)) is not None:
        return index
    made, broken = readable()
    index = next((index for index in made if index.name == name), None)
    if index is None and broken and not real(name).is_dir():
        raise broken[0]
    return index


def get(name: str) -> NamedIndex:
    """As ``find``. Raises NotFoundError."""
    index = find(name)
    if index is None:
        raise NotFoundError(f"there is no index of {printable(name)}", hint=_remedy(name))
    return index


def _remedy(name: str) -> str:
    return command("llmctl", "index", "add", names=[name]) if Path(name).is_dir() else "llmctl index list"


def require_folder(name: str) -> Path:
    """The folder ``name``, with no link in its path. Raises NotFoundError, UsageError for a file, and AccessError."""
    root, shown = real(name), printable(name)
    if root.is_dir():
        if not os.access(root, os.R_OK | os.X_OK):
            raise AccessError(f"{shown} may not be listed by this user")
        return root
    if root.exists():
        raise UsageError(f"{shown} is a file, and an index is of a folder", hint=command("llmctl", "run", "-f", name))
    raise NotFoundError(f"there is no folder {shown}, and no index of that name", hint="llmctl index list")


def real(name: str) -> Path:
    return Path(os.path.realpath(os.path.expanduser(name)))  # noqa: PTH111  pathlib raises without a home


def file_of(root: Path) -> Path:
    import hashlib

    return folder() / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:20]}{SUFFIX}"


def made(root: Path, name: str | None) -> NamedIndex:
    """The index of the folder ``root``, begun if there is none. Raises UsageError for a name that another one has, and
    for another one than it has."""
    file = file_of(root)
    before = _read(file) if file.exists() else None
    if before is not None:
        if name not in (None, before.name):
            raise UsageError(
                f"{printable(str(root))} is in the index {before.name}",
                hint=command("llmctl", "index", "remove", names=[before.name]),
            )
        return before
    index = NamedIndex(_free_name(root, name), root, file)
    with TextIndex.make(file) as begun, begun.transaction():
        begun.note(ROOT, os.fsencode(root).hex())
        begun.note(NAME, index.name)
    return index


def _free_name(root: Path, name: str | None) -> str:
    """Raises UsageError."""
    taken = {index.name for index in readable()[0]}
    if name is not None:
        if name in taken or "/" in name or printable(name, NAME_CHARACTERS) != name or name.startswith("-"):
            why = "is that of another index" if name in taken else "can't be one"
            raise UsageError(f"the name {printable(name)!r} {why}", hint="llmctl index list")
        return name
    base = printable(root.name, NAME_CHARACTERS).lstrip("-.") or "texts"
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    return next(free for free in names if free not in taken)


def _files() -> list[Path]:
    try:
        return sorted(folder().glob(f"*{SUFFIX}"))
    except OSError as error:
        raise ResourceError(f"{folder()} can't be read: {error.strerror or error}") from error


def _read(file: Path) -> NamedIndex | None:
    """None for one that was never begun."""
    try:
        with TextIndex.open(file) as index:
            name, root = index.about(NAME), index.about(ROOT)
    except NotFoundError:
        return None
    return None if name is None or root is None else NamedIndex(name, Path(os.fsdecode(bytes.fromhex(root))), file)


@contextmanager
def being_changed(index: NamedIndex) -> Iterator[None]:
    """No other process changes the index meanwhile. Raises ResourceError where one does."""

    def busy() -> None:
        raise ResourceError(
            f"another process changes the index {index.name}", hint="run the same command again when that is done"
        )

    with locked(index.file.with_suffix(".lock"), waiting=busy):
        yield
