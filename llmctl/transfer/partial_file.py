"""A file that is being downloaded, until it is complete and gets its name.

``<target>.llmctl.incomplete`` holds the bytes, each at its offset, and beside it a ``.journal`` says which of them are
there. It must not be ``<target>.incomplete``: older tools of the hub go on with such a file at its end, and so would
keep its holes. Incomplete files of those tools are resumed here.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Self

from llmctl.errors import IntegrityError, UnsupportedFileError
from llmctl.files import disk
from llmctl.gguf.header import read_header
from llmctl.transfer import journal
from llmctl.transfer.hasher import Hasher
from llmctl.transfer.journal import Journal
from llmctl.transfer.ranges import Ranges

ENDING = ".llmctl.incomplete"
JOURNAL_ENDING = f"{ENDING}.journal"
THEIRS = re.compile(r"(\.[0-9a-f]{8})?\.incomplete")
NOTED_BYTES = 2 << 20  # so much is written between two notes in the journal, by all connections together
SYNCED_BYTES = 256 << 20  # so much, or so long, between two notes that outlive the machine
SYNCED_S = 10.0
QUIET_S = 60.0  # another tool's file that was not written to for so long has no writer any more
MOST_ETAG_CHARACTERS = 256

Chunk = bytes | memoryview


def noted_bytes(target: Path) -> int:
    """Bytes of ``target`` in its partial file, by the journal: for processes that wait for another's download."""
    note = journal.read(target.with_name(target.name + JOURNAL_ENDING))
    return 0 if note is None else note.trusted.total_bytes


class PartialFile:
    """The partial file of ``target``, used as a context under the lock of ``target``; its methods by any thread.

    When the context ends without ``publish`` or ``discard``, the file stays for the next try, unless it is empty.
    ``epoch`` counts how often everything was forgotten: what belongs to an earlier one is not written any more.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ENDING)
        self.joined = False  # whether the bytes came in one stream, or were put together from several
        self.epoch = 0
        self.validator: str | None = None  # the strong ETag of those whose bytes these are
        self._journal_path = target.with_name(target.name + JOURNAL_ENDING)
        self._written = Ranges()
        self._synced = Ranges()
        self._synced_s = time.monotonic()
        self._unnoted_bytes = self._unsynced_bytes = 0
        self._writers = 0
        self._changed = threading.Condition()
        self._syncing = threading.Lock()
        self._resources = ExitStack()
        self._file: BinaryIO
        self._journal: Journal
        self._hasher: Hasher

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._resume_of_other_tools()
        note = journal.read(self._journal_path)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with ExitStack() as resources:
            descriptor = os.open(self.path, flags, 0o666)
            self._file = resources.enter_context(os.fdopen(descriptor, "r+b", buffering=0))
            self._journal = resources.enter_context(Journal(self._journal_path))
            if note is not None:
                size_bytes = os.fstat(descriptor).st_size
                self._written, self._synced = note.trusted.before(size_bytes), note.synced.before(size_bytes)
                self.validator = note.etag
            self._file.truncate(self._written.end)
            self.joined = self.done_bytes > 0
            self._unsynced_bytes = self._written.total_bytes - self._synced.total_bytes
            for _ in range(journal.SLOTS):
                self._note()  # from here on the journal needs no more room, come what may
            self._hasher = resources.enter_context(Hasher(self.path))
            self._hasher.grow(self._written.prefix_bytes, 0, b"")
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._end_writing() and not self._file.closed:
                with suppress(OSError):
                    self.sync()  # so that it is still known after the machine was switched off
        finally:
            self._close()
        if not self._written.total_bytes:
            self.discard()

    @property
    def done_bytes(self) -> int:
        with self._changed:
            return self._written.total_bytes

    @property
    def written(self) -> Ranges:
        """A copy of the ranges that are written."""
        with self._changed:
            return Ranges(self._written)

    def sha256(self, size_bytes: int) -> str:
        """The sha256 of the complete file, in hex. Most of it was hashed while it was written."""
        return self._hasher.sha256(size_bytes)

    def note_validator(self, etag: str | None) -> None:
        """Records the ETag of the bytes here, unless one is known. Weak, odd or overlong ones can't be asked for and
        count as none."""
        with self._changed:
            if self.validator is None or not self._written.total_bytes:
                self.validator = etag if _is_strong(etag) else None

    def is_from_another(self, etag: str | None) -> bool:
        """Whether bytes with this ETag belong to another file than those that are here."""
        with self._changed:
            return _is_strong(etag) and self.validator not in (None, etag) and self._written.total_bytes > 0

    def write(self, at: int, piece: Chunk, epoch: int) -> None:
        """Writes ``piece`` at ``at``, unless ``epoch`` is over. Nothing else may write there, or change ``piece``."""
        with self._changed:
            if epoch != self.epoch:
                return
            self._writers += 1
        end, rest = at, memoryview(piece)
        try:
            while rest:
                put_bytes = self._put(end, rest)
                end, rest = end + put_bytes, rest[put_bytes:]
        finally:
            with self._changed:
                self._written.add(at, end)
                self._unnoted_bytes += end - at
                self._unsynced_bytes += end - at
                if not rest:
                    self._hasher.grow(self._written.prefix_bytes, at, piece)
                if self._unnoted_bytes >= NOTED_BYTES:
                    self._note()
                self._writers -= 1
                self._changed.notify_all()

    def restart(self) -> None:
        """Forgets every byte."""
        with self._changed:
            self._begin_epoch()
            self._hasher.restart()
            self._written, self._synced = Ranges(), Ranges()
            self._file.truncate(0)
            self.validator = None
            self.joined = False
            self._note()
            self._journal.sync()  # an older note must not come back after a power cut and speak of other bytes

    def sync_due(self) -> bool:
        with self._changed:
            late = time.monotonic() - self._synced_s >= SYNCED_S
            return self._unsynced_bytes >= SYNCED_BYTES or (late and self._unsynced_bytes > 0)

    def sync(self) -> None:
        """Syncs what is written to the disk, where it outlives the machine. May take seconds."""
        with self._syncing:
            with self._changed:
                if self._file.closed:
                    return
                written, epoch = Ranges(self._written), self.epoch
                self._unsynced_bytes, self._synced_s = 0, time.monotonic()
            journal.sync(self._file.fileno())
            with self._changed:
                if epoch == self.epoch:
                    self._synced = written
                    self._note()
            self._journal.sync()

    def check_header(self, name: str) -> None:
        """Raises IntegrityError or UnsupportedFileError unless the bytes are a sound GGUF file that can be read."""
        with self.path.open("rb", buffering=0) as stream:
            try:
                read_header(stream, size_bytes=self.done_bytes)
            except (IntegrityError, UnsupportedFileError) as error:
                raise type(error)(f"{name} {error.message}", hint=error.hint) from error

    def publish(self) -> None:
        """Gives the file its name: from here on it counts as whole, even after a power cut."""
        self._end_writing()
        os.fsync(self._file.fileno())
        self._close()  # Windows neither renames nor removes open files
        self.path.replace(self.target)
        self._journal_path.unlink(missing_ok=True)
        disk.sync_folder(self.target.parent)

    def discard(self) -> None:
        """Removes the partial file and its journal."""
        self._end_writing()
        self._close()
        self._written = Ranges()
        self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def _begin_epoch(self) -> None:
        self.epoch += 1
        while self._writers:
            self._changed.wait()

    def _end_writing(self) -> int:
        """Waits for writes to end, and lets none begin. Returns how many bytes are written."""
        with self._changed:
            self._begin_epoch()
            return self._written.total_bytes

    def _close(self) -> None:
        with self._syncing:
            self._resources.close()

    def _note(self) -> None:
        self._journal.save(self._written, self._synced, self.validator)
        self._unnoted_bytes = 0

    def _put(self, at: int, piece: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file.fileno(), piece, at)
        with self._changed:  # Windows
            self._file.seek(at)
            return self._file.write(piece)

    def _resume_of_other_tools(self) -> None:
        """Goes on with what one of the hub's own tools has left: ``<name>.incomplete`` or, since each process writes a
        file of its own, ``<name>.<8 digits>.incomplete``."""
        candidates = []
        for path in self.target.parent.glob(f"{glob.escape(self.target.name)}.*incomplete"):
            status, theirs = path.lstat(), THEIRS.fullmatch(path.name.removeprefix(self.target.name))
            if theirs is None or not stat.S_ISREG(status.st_mode):
                continue
            if theirs[1] is None or time.time() - status.st_mtime > QUIET_S:
                candidates.append((_solid_bytes(path), path))
        if not candidates:
            return
        solid_bytes, path = max(candidates)
        with Journal(self._journal_path) as new_journal:  # first: a file without a journal would count as empty
            new_journal.save(Ranges([(0, solid_bytes)]), Ranges(), None)
        path.replace(self.path)


def _is_strong(etag: str | None) -> bool:
    if etag is None or len(etag) > MOST_ETAG_CHARACTERS:
        return False
    return etag.startswith('"') and etag.isascii() and etag.isprintable()


def _solid_bytes(path: Path) -> int:
    """Bytes before the file's first hole, which some tools leave, less the block before the hole: how much of that was
    written can't be told."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(descriptor)
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE) if hasattr(os, "SEEK_HOLE") and status.st_size else status.st_size
    except OSError:  # a filesystem that doesn't know
        return status.st_size
    finally:
        os.close(descriptor)
    return hole if hole == status.st_size else max(0, hole - status.st_blksize)
