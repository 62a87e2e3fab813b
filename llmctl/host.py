"""The one door to the machine: its files, its environment, and what programs and libraries tell of it.

``Host()`` is the machine we are on. A recorded machine (``probe.recording``) stands behind the same door, so whatever
is not asked through it can't be tested on hardware that isn't here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmctl import child
from llmctl.child import Reply

READ_LIMIT_BYTES = 1 << 20  # /proc and /sys files are small; whatever is larger is not what we asked for
READ_AT_ONCE_BYTES = 1 << 16
OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
READING = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows turns line ends into others without it


class Ran(Struct, frozen=True):
    """A command that came to its end. ``code`` is 128 + n if signal n ended it, as shells have it."""

    code: int
    out: str
    err: str


class Filesystem(Struct, frozen=True):
    """``kind`` is the system's own word for it (ext4, nfs4, apfs), None where it doesn't say."""

    total_bytes: int
    free_bytes: int
    kind: str | None = None


class OwnEnvironment(dict[str, str]):
    """A copy of this process's environment, of which children get the part that they need."""


@dataclass(frozen=True)
class Host:
    """This machine (``Host()``), or the files of another one below ``root``.

    ``system`` is Python's ``sys.platform``: linux, darwin, win32. Nothing here raises: what cannot be read, run or
    asked is None, because a probe returns notes instead of exceptions. An ``environ`` that is given is
    what children get, too.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: OwnEnvironment(os.environ))
    system: str = sys.platform

    @property
    def live(self) -> bool:
        """True for the machine we are on: what was learnt earlier, and kept, is about this one only."""
        return self.root == Path("/")

    @property
    def _child_environment(self) -> Mapping[str, str]:
        own = isinstance(self.environ, OwnEnvironment)
        return child.environment(self.environ) if own else self.environ

    def path(self, name: str) -> Path:
        """The place of an absolute path below the root."""
        return self.root / name.lstrip("/")

    def read(self, name: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> str | None:
        """Text of a small file, undecodable bytes replaced; None if it isn't there or can't be read."""
        parts = []
        try:  # the system's own calls: pathlib and a buffered file cost several times what reading does
            file = os.open(os.path.join(self.root, name.lstrip("/")), READING)  # noqa: PTH118
            try:
                while part := os.read(file, min(limit_bytes, READ_AT_ONCE_BYTES)):  # /proc tells a page at a time
                    parts.append(part)
                    limit_bytes -= len(part)
            finally:
                os.close(file)
        except (OSError, ValueError):
            return None
        return b"".join(parts).decode("utf-8", "replace")

    def exists(self, name: str) -> bool:
        try:
            return self.path(name).exists()
        except (OSError, ValueError):
            return False

    def readable(self, name: str) -> bool:
        """Whether this user may open it. It isn't opened: that would wake a sleeping device."""
        try:
            return os.access(self.path(name), os.R_OK)
        except (OSError, ValueError):
            return False

    def glob(self, pattern: str) -> list[str]:
        """Absolute names (as seen from the root) that match, sorted."""
        try:
            paths = sorted(self.root.glob(pattern.lstrip("/")))
        except (OSError, ValueError, IndexError):  # IndexError: pathlib's for "."
            return []
        return ["/" + str(path.relative_to(self.root)) for path in paths]

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Ran | None:
        """A command with an empty standard input. None if it can't be started, or was ended for its time."""
        if not self.live:
            return None
        try:
            done = child.run(argv, self._child_environment, timeout_s)
        except (OSError, ValueError):  # ValueError: a null byte in an argument
            return None
        if done is None:
            return None
        code, out, err = done
        return Ran(code if code >= 0 else 128 - code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        """What a module of ours answers in a process of its own (``child.answer``): the way to load a library."""
        if not self.live:
            return Reply(None, "was not recorded")
        return child.ask(self._child_environment, module, question, deadline_s=deadline_s)

    def filesystem(self, path: Path) -> Filesystem | None:
        """The filesystem that holds ``path``, or will when it is made; None where it can't be told."""
        return _filesystem(path) if self.live else None


def _filesystem(path: Path) -> Filesystem | None:
    for place in (path, *path.absolute().parents):
        try:
            usage = shutil.disk_usage(place)
            where, mounts = place.resolve(), _mounts()
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError):
            return None
        kind = next((mounts[folder] for folder in map(str, (where, *where.parents)) if folder in mounts), None)
        return Filesystem(usage.total, usage.free, kind or None)
    return None


def _mounts() -> dict[str, str]:
    """Kinds of filesystems by the folder each is mounted on. Raises OSError, RuntimeError."""
    try:
        lines = Path("/proc/self/mounts").read_bytes().splitlines()
    except OSError:  # a system without it; elsewhere psutil, which takes long to load, is not needed
        import psutil

        return {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    fields = [line.split(b" ") for line in lines]
    return {os.fsdecode(_unescaped(row[1])): row[2].decode("ascii", "replace") for row in fields if len(row) > 2}


def _unescaped(field: bytes) -> bytes:
    """A field of /proc/self/mounts: blanks, tabs, line ends and backslashes stand there as octal numbers."""
    return OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
