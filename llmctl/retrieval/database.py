"""The SQLite file of an index: readable by its owner alone, with the tables it needs, and its errors in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmctl.errors import IntegrityError, NotFoundError, ResourceError
from llmctl.files import atomic
from llmctl.shell import command

VERSION = 2
PATIENCE_S = 10.0  # another process writes for as long as some files take
CACHE_KIB = 16 << 10
SCHEMA = """
CREATE TABLE about(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE file(
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 BLOB, skipped TEXT
);
CREATE TABLE passage(
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL, number INTEGER NOT NULL,
    from_line INTEGER NOT NULL, to_line INTEGER NOT NULL, text TEXT NOT NULL, block INTEGER
);
CREATE UNIQUE INDEX passage_of_file ON passage(file, number);
CREATE VIRTUAL TABLE words USING fts5(name, text, content='', tokenize='unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'row');
"""
BLOCKS = """
CREATE INDEX passage_of_block ON passage(block);
CREATE TABLE block(id INTEGER PRIMARY KEY, passages BLOB NOT NULL, vectors BLOB NOT NULL);
"""
WITHOUT_BLOCKS = 1  # the version that had vectors by files
UPGRADE = """
DROP TABLE vectors;
ALTER TABLE passage ADD COLUMN block INTEGER;
"""


def opened(file: Path) -> sqlite3.Connection:
    """The index in ``file``; one of the version before loses its vectors, which its next update makes anew. Raises
    NotFoundError where there is none, IntegrityError for what is none or is of another version, ResourceError."""
    with translated(file):
        connection = _connected(file)
        if _version(connection) == WITHOUT_BLOCKS:
            _make_tables(connection, UPGRADE + BLOCKS, WITHOUT_BLOCKS)
        version = _version(connection)
    if version != VERSION:
        connection.close()
        if not version:
            raise NotFoundError(f"the index in {file} was never begun", hint="llmctl index add FOLDER")
        raise IntegrityError(f"the index in {file} is of version {version}, not {VERSION}", hint=_anew(file))
    return connection


def made(file: Path) -> sqlite3.Connection:
    """As ``opened``; it is made where there is none. Raises ResourceError, also where this Python's SQLite has no
    FTS5."""
    require_fts5()
    with translated(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, atomic.OWN))  # -wal and -shm get its mode from SQLite
        connection = _connected(file)
        _make_tables(connection, SCHEMA + BLOCKS, 0)
        connection.close()
    return opened(file)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make_tables(connection: sqlite3.Connection, statements: str, version: int) -> None:
    """Makes an index of VERSION of one of ``version``, unless another process has done that."""
    with transaction(connection):
        if _version(connection) == version:
            for statement in statements.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def require_fts5() -> None:
    """Raises ResourceError where this Python's SQLite can't search texts."""
    with sqlite3.connect(":memory:") as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        except sqlite3.OperationalError as error:
            raise ResourceError(
                f"the SQLite of this Python ({sqlite3.sqlite_version}) has no FTS5, which an index is made of",
                hint="install a Python whose sqlite3 has it, as those of distributions and of python.org",
            ) from error


def _connected(file: Path) -> sqlite3.Connection:
    if not file.exists():
        raise NotFoundError(f"{file} is not there", hint="llmctl index list")
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is done meanwhile is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Raises IntegrityError for an index that is broken, and ResourceError for what the system refuses."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ResourceError(f"the index in {file} can't be used: {error}", hint="llmctl index list") from error
    except sqlite3.DatabaseError as error:
        raise IntegrityError(f"the index in {file} is broken: {error}", hint=_anew(file)) from error
    except OSError as error:
        raise ResourceError(f"the index in {file} can't be written: {error.strerror or error}") from error


def _anew(file: Path) -> str:
    return f"{command('rm', names=[file])}   then: llmctl index add FOLDER"
