"""The worker's side of staying: it lets go of the command that has started it, and ends itself when nobody uses it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from msgspec.structs import replace

from llmctl import child

if TYPE_CHECKING:
    from llmctl.engine.warm.entry import EntryFile

LOOK_S = 0.5


class Stay:
    """``entry_file`` is where the engine is to be found; None for one that ends with its parent. ``log`` is what the
    process writes its stderr to, None where that has no name. ``end`` is called before this process ends itself, for an
    engine that is a process of its own."""

    def __init__(self, entry_file: str | None, log: str | None, end: Callable[[], None] = lambda: None) -> None:
        self._path = None if entry_file is None else Path(entry_file)
        self._log = log
        self._end = end
        self.has_begun = False
        self._requests = 0
        self._held: EntryFile | None = None
        self._last_use_s = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """As long as a request is answered, of whatever program: nobody ends the engine meanwhile to make room, and it
        is idle from the end of the last one on."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        """Holds the entry's lock, as a command that uses the engine does, while there are requests."""
        if self._path is None:
            return
        from llmctl.engine.warm import entry

        with self._lock:
            self._requests += change
            self._last_use_s = time.monotonic()
            if self._requests and self._held is None:
                self._held = entry.use(self._path)
            elif not self._requests and self._held is not None:
                entry.touch(self._path)
                self._held.close()
                self._held = None

    def begin(self, ready: Mapping[str, Any], channel: TextIO) -> None:
        """Called when the model is loaded; the parent goes on when the entry says so.

        Until here the engine ends with its parent; from here on when it was idle for as long as its entry says, or when
        the entry is gone."""
        if self._path is None:
            return
        from llmctl.engine.warm import entry
        from llmctl.engine.warm.entry import Ready
        from llmctl.engine.warm.process import Process, started

        file = entry.use(self._path)
        about = None if file is None else file.read()
        if file is None or about is None:
            os._exit(1)
        pid = ready.get("pid", os.getpid())
        process = Process(pid, started(pid) or "")
        self.has_begun = True
        _let_go(channel)
        answers = Ready(process, ready["port"], ready["chat_template"], ready["build"], self._log)
        with file:
            file.write(replace(about, ready=answers))
            inode = file.inode
        threading.Thread(target=self._watch, args=(self._path, inode), daemon=True).start()

    def _watch(self, path: Path, inode: int) -> None:
        from llmctl.engine import log

        _wait_until_unused(path, inode, lambda: self._last_use_s)
        self._end()
        log.remove(self._log)
        os._exit(0)


def _let_go(channel: TextIO) -> None:
    """Keeps nothing of the parent's open, and is not ended with it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(child.PR_SET_PDEATHSIG, 0, 0, 0, 0)
    os.chdir("/")
    channel.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    os.close(nothing)


def _wait_until_unused(path: Path, inode: int, last_use_s: Callable[[], float]) -> None:
    """Returns when the engine was idle for too long, or its entry is gone or another's. ``last_use_s`` is when it had a
    request last, by the clock that nobody can set."""
    from llmctl.engine.warm import entry

    used_s = time.monotonic()
    while True:
        time.sleep(LOOK_S)
        about = entry.read(path)
        unused = entry.take(path)
        if unused is None:
            if not _is_there(path, inode):
                return
            used_s = time.monotonic()
            entry.touch(path)
            continue
        with unused:
            if unused.inode != inode:
                return
            idle_s = time.monotonic() - max(used_s, last_use_s())
            if about is not None and about.keep_alive_s is not None and idle_s >= about.keep_alive_s:
                unused.remove()
                return


def _is_there(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False
