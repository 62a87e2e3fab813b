"""A control group of memory, where the system lets us make one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from llmctl.host import Host
from llmctl.probe.cgroup import _groups

EMPTY_S = 10.0


class ControlGroup:
    """``procs`` is where a process writes its number to be in it."""

    def __init__(self, folder: Path) -> None:
        self.procs = folder / "cgroup.procs"
        names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        self._limit, self._usage = (
            folder / name for name in next(pair for pair in names if (folder / pair[0]).exists())
        )

    def leave(self, more_bytes: int) -> None:
        """Its processes may take so much more than they have now."""
        self._limit.write_text(str(int(self._usage.read_text()) + more_bytes))


@contextlib.contextmanager
def control_group() -> Iterator[ControlGroup | str]:
    """The group, or why there can be none. It is removed once it is empty."""
    above = next((Path(folder) for _, folder in _groups(Host(), "memory") if Path(folder).is_dir()), None)
    if above is None:
        yield "no control group of memory is mounted here"
        return
    folder = above / f"llmctl-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        yield f"no control group can be made: {error.strerror}"
        return
    try:
        if any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            yield ControlGroup(folder)
        else:
            yield "the control groups that are made here don't limit memory"
    finally:
        deadline = time.monotonic() + EMPTY_S
        while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            folder.rmdir()
