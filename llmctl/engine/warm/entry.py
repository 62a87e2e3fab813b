"""What is written of an engine that stays, for the next command to find it: a file for each in the runtime folder.

Whoever uses the engine holds the file's lock, shared; whoever ends it takes the lock alone. The system frees the lock
of a process that dies. A file that is gone, or replaced, ends its engine.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from llmctl import paths
from llmctl.engine.warm.process import Process
from llmctl.errors import ResourceError

LIMIT_BYTES = 64 << 10
SUFFIX = ".json"
OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
PID_FIELD = 4  # of a line of /proc/locks (proc_locks(5))
AGAIN_S = 0.02  # the engine itself takes the lock for a moment, to see whether it is used


class Ready(Struct, frozen=True):
    """What an engine says of itself when it answers. ``port`` is that on 127.0.0.1, ``log`` the path of its log, if it
    has one."""

    process: Process
    port: Annotated[int, Meta(ge=1, le=65535)]
    has_chat_template: bool
    build: str
    log: str | None = None


class Entry(Struct, frozen=True):
    """An engine that stays. ``key`` stands for its file, settings and build; ``memory`` is what was planned on each
    device, in bytes. It ends when it was idle for ``keep_alive_s``, None for never. ``ready`` is None while it loads.
    """

    key: str
    model: str
    quant: str
    context: int
    sequences: int
    memory: Mapping[str, int]
    keep_alive_s: float | None
    token: str
    ready: Ready | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Entry({self.model} {self.quant}, {self.ready})"

    @property
    def address(self) -> str | None:
        return None if self.ready is None else f"http://127.0.0.1:{self.ready.port}/v1"


class EntryFile:
    """The file of an entry, open and locked. A context manager: leaving it frees the lock."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def read(self) -> Entry | None:
        return _decoded(os.pread(self._handle, LIMIT_BYTES, 0))

    def write(self, entry: Entry) -> None:
        """In place: the file that is locked stays the one that is found. Raises OSError."""
        content = msgspec.json.encode(entry)
        os.pwrite(self._handle, content, 0)
        os.ftruncate(self._handle, len(content))

    @property
    def is_in_place(self) -> bool:
        """False when the file was removed, or another one is there."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.lstat(self.path))
        except OSError:
            return False

    @property
    def inode(self) -> int:
        return os.fstat(self._handle).st_ino

    def remove(self) -> None:
        if self.is_in_place:
            with suppress(OSError):
                self.path.unlink()

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create(folder: Path, entry: Entry) -> EntryFile:
    """A new file, its lock held as by one who uses the engine. Raises OSError."""
    path = folder / f"{os.urandom(8).hex()}{SUFFIX}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    made = EntryFile(path, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        made.write(entry)
    except BaseException:
        made.remove()
        made.close()
        raise
    return made


def use(path: Path) -> EntryFile | None:
    """The file of an engine, its lock shared with others that use it; None if it is gone."""
    return _locked(path, fcntl.LOCK_SH)


def take(path: Path) -> EntryFile | None:
    """The file of an engine that nobody uses, and that nobody can use meanwhile; None if it is used, or gone."""
    taken = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if taken is None and path.exists():
        time.sleep(AGAIN_S)
        taken = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return taken


def read(path: Path) -> Entry | None:
    """None where the file is gone, broken, or not this user's alone."""
    opened = _opened(path)
    if opened is None:
        return None
    with opened:
        return opened.read()


def touch(path: Path) -> None:
    """Notes that the engine was in use just now, for ``idle_s``."""
    with suppress(OSError):
        os.utime(path)


def idle_s(path: Path) -> float:
    """How long nobody has used it, by the clock that people set; to be shown, not to be acted on."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def users(path: Path) -> int:
    """How many commands use the engine now. Programs that have no lock count as one, by that of the engine which
    answers them; where the system does not list locks, 1 stands for any number."""
    holders = lock_holders(path)
    if holders is None:
        unused = take(path)
        if unused is not None:
            unused.close()
        return 0 if unused is not None else 1
    about = read(path)
    engine = None if about is None or about.ready is None else about.ready.process.pid
    return len([pid for pid in holders if pid != engine]) or len(holders)


def lock_holders(path: Path) -> list[int] | None:
    """The processes that hold its lock, shared; None where the system does not list locks, or the file is gone."""
    try:
        inode = path.stat().st_ino
        locks = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    held = [lock for lock in locks if "FLOCK" in lock and " READ " in lock and f":{inode} " in lock]
    return [int(lock.split()[PID_FIELD]) for lock in held]


def listed(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else looks for an engine to use, or adds one, while the context lasts. Raises OSError."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> EntryFile | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(handle)
    if stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & OTHERS_MAY:
        return EntryFile(path, handle)
    os.close(handle)
    return None


def _locked(path: Path, kind: int) -> EntryFile | None:
    opened = _opened(path)
    if opened is None:
        return None
    try:
        fcntl.flock(opened._handle, kind)
    except OSError:
        opened.close()
        return None
    if opened.is_in_place:
        return opened
    opened.close()
    return None


def _decoded(content: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(content, type=Entry)
    except (msgspec.MsgspecError, RecursionError):
        return None


def existing_folder() -> Path | None:
    """The runtime folder; None where there is none, or none that can be trusted."""
    folder = paths.runtime_dir()
    return None if _problem(folder) else folder


def folder() -> Path:
    """The runtime folder, made if need be. Raises ResourceError where it can't be, or isn't this user's alone."""
    place = paths.runtime_dir()
    try:
        for part in (place.parent, place):
            with suppress(FileExistsError):
                part.mkdir(0o700)
    except OSError as error:
        raise _unusable(place, f"can't be made: {error.strerror}") from error
    problem = _problem(place)
    if problem is None and not os.access(place, os.W_OK | os.X_OK):
        problem = "can't be written to"
    if problem is not None:
        raise _unusable(place, problem)
    return place


def _unusable(place: Path, problem: str) -> ResourceError:
    message = f"no engine can stay: the folder for its address, {place}, {problem}"
    return ResourceError(message, hint="export XDG_RUNTIME_DIR=/a/folder/of/yours   or leave out --keep-alive")


def _problem(place: Path) -> str | None:
    """What speaks against trusting what lies in ``place``."""
    try:
        about, above = place.lstat(), place.parent.stat()
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if not stat.S_ISDIR(about.st_mode):
        return "is no folder"
    if about.st_uid != os.getuid():
        return "belongs to another user"
    if about.st_mode & OTHERS_WRITE:
        return "may be written to by others"
    if above.st_uid not in (0, os.getuid()) or (above.st_mode & OTHERS_WRITE and not above.st_mode & stat.S_ISVTX):
        return "lies in a folder where others may replace it"
    return None
