"""The index of one folder: its files, their passages, and the words in them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from llmctl.retrieval import blocks, database
from llmctl.retrieval.folder import FolderFile
from llmctl.retrieval.passages import Passage
from llmctl.retrieval.words import separated


class Skipped(StrEnum):
    """Why nothing of a file is in the index."""

    TOO_LARGE = "too large"
    BINARY = "no text"
    EMPTY = "empty"
    ENCRYPTED = "encrypted"
    BROKEN = "broken"
    NEEDS_EXTRA = "needs llmctl[documents]"
    UNREADABLE = "unreadable"

    @property
    def may_pass(self) -> bool:
        """Whether the same file may be read another time."""
        return self in (Skipped.NEEDS_EXTRA, Skipped.UNREADABLE, Skipped.TOO_LARGE)


class IndexedFile(Struct, frozen=True):
    """A file as the index has it. ``sha256`` is None for what wasn't read."""

    id: int
    file: FolderFile
    sha256: bytes | None
    skipped: Skipped | None


class IndexedPassage(Struct, frozen=True):
    """``id`` is that of the index, ``file`` the path from its folder."""

    id: int
    file: str
    passage: Passage


class IndexSize(Struct, frozen=True):
    """How many there are, and what the index takes on disk. ``with_vector`` of the passages have one."""

    files: int
    skipped: int
    passages: int
    with_vector: int
    bytes: int


class TextIndex:
    """Open until ``close``. Every method raises IntegrityError for an index that is broken, and ResourceError."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._connection = connection

    @classmethod
    def open(cls, file: Path) -> Self:
        """Raises what ``database.opened`` raises."""
        return cls(file, database.opened(file))

    @classmethod
    def make(cls, file: Path) -> Self:
        """Raises what ``database.made`` raises."""
        return cls(file, database.made(file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with database.translated(self.file):
            self._connection.close()

    def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with database.translated(self.file):
            return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str, *values: object) -> Iterator[tuple[object, ...]]:
        """The rows one by one, for what memory should not hold."""
        with database.translated(self.file):
            yield from self._connection.execute(statement, values)

    def write(self, statement: str, *values: object) -> int:
        """The id of the row that was added, if one was."""
        with database.translated(self.file):
            return self._connection.execute(statement, values).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written meanwhile is kept, or nothing: also where the process is killed."""
        with database.translated(self.file), database.transaction(self._connection):
            yield

    def about(self, name: str) -> str | None:
        """What was noted under ``name``."""
        rows = self.rows("SELECT value FROM about WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def note(self, name: str, value: str | None) -> None:
        """Notes ``value``, or forgets what was noted."""
        if value is None:
            self.write("DELETE FROM about WHERE name = ?", name)
        else:
            self.write("INSERT OR REPLACE INTO about VALUES (?, ?)", name, value)

    def files(self) -> dict[str, IndexedFile]:
        """By their paths."""
        rows = self.rows("SELECT id, path, size_bytes, mtime_ns, sha256, skipped FROM file")
        return {file.file.path: file for file in map(_file, rows)}

    def size(self) -> IndexSize:
        files, skipped = self.rows("SELECT count(*), count(skipped) FROM file")[0]
        passages = self.rows("SELECT count(*) FROM passage")[0][0]
        with_vector = self.rows("SELECT count(block) FROM passage")[0][0]
        on_disk = sum(part.stat().st_size for part in parts(self.file) if part.exists())
        return IndexSize(whole(files) - whole(skipped), whole(skipped), whole(passages), whole(with_vector), on_disk)

    def add(self, file: FolderFile, sha256: bytes | None, passages: Sequence[Passage]) -> None:
        id = self._add(file, sha256, None)
        for number, passage in enumerate(passages):
            row = self.write(
                "INSERT INTO passage(file, number, from_line, to_line, text) VALUES (?, ?, ?, ?, ?)",
                *(id, number, passage.from_line, passage.to_line, passage.text),
            )
            self._write_words("words(rowid, name, text)", row, file.path, passage.text)

    def add_skipped(self, file: FolderFile, sha256: bytes | None, why: Skipped) -> None:
        self._add(file, sha256, why)

    def _add(self, file: FolderFile, sha256: bytes | None, why: Skipped | None) -> int:
        return self.write(
            "INSERT INTO file(path, size_bytes, mtime_ns, sha256, skipped) VALUES (?, ?, ?, ?, ?)",
            *(os.fsencode(file.path), file.size_bytes, file.mtime_ns, sha256, why),
        )

    def _write_words(self, where: str, row: int, path: str, text: str) -> None:
        what = "'delete', " if where.startswith("words(words") else ""
        statement = f"INSERT INTO {where} VALUES ({what}?, ?, ?)"  # noqa: S608  # nothing but the words above
        self.write(statement, row, separated(shown(path)), separated(text))

    def remove(self, file: IndexedFile) -> None:
        """The file and all that was kept of it."""
        self._remove_words(file)
        blocks.leave_out(self, file.id)
        self.write("DELETE FROM passage WHERE file = ?", file.id)
        self.write("DELETE FROM file WHERE id = ?", file.id)

    def _remove_words(self, file: IndexedFile) -> None:
        for row, text in self.rows("SELECT id, text FROM passage WHERE file = ?", file.id):
            self._write_words("words(words, rowid, name, text)", whole(row), file.file.path, str(text))

    def rename(self, file: IndexedFile, new: FolderFile) -> None:
        """The file has another path; its passages and vectors stay."""
        self._remove_words(file)
        self.touch(file, new)
        for row, text in self.rows("SELECT id, text FROM passage WHERE file = ?", file.id):
            self._write_words("words(rowid, name, text)", whole(row), new.path, str(text))

    def touch(self, file: IndexedFile, new: FolderFile) -> None:
        """The file has the same content as before, and another time or path."""
        self.write(
            "UPDATE file SET path = ?, size_bytes = ?, mtime_ns = ? WHERE id = ?",
            *(os.fsencode(new.path), new.size_bytes, new.mtime_ns, file.id),
        )

    def passages(self, ids: Iterable[int]) -> list[IndexedPassage]:
        """Those with these ids, in their order; what is no longer there is left out."""
        made = (
            self.rows(
                "SELECT passage.id, path, from_line, to_line, text FROM passage JOIN file ON file.id = passage.file "
                "WHERE passage.id = ?",
                id,
            )
            for id in ids
        )
        return [_passage(rows[0]) for rows in made if rows]


def parts(file: Path) -> tuple[Path, ...]:
    """The files that an index is on disk."""
    return file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")


def shown(path: str) -> str:
    """A path as text: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def _file(row: tuple[object, ...]) -> IndexedFile:
    id, path, size, mtime, sha256, skipped = row
    assert isinstance(path, bytes) and (sha256 is None or isinstance(sha256, bytes))
    file = FolderFile(os.fsdecode(path), whole(size), whole(mtime))
    return IndexedFile(whole(id), file, sha256, None if skipped is None else Skipped(str(skipped)))


def _passage(row: tuple[object, ...]) -> IndexedPassage:
    id, path, from_line, to_line, text = row
    assert isinstance(path, bytes)
    return IndexedPassage(whole(id), os.fsdecode(path), Passage(whole(from_line), whole(to_line), str(text)))


def whole(value: object) -> int:
    """A number of a row."""
    assert isinstance(value, int)
    return value
