"""Processes that are not our children, known by number and time of start: a number that is used again is another's."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

LOOK_S = 0.05
STARTED_FIELD = 19  # of /proc/PID/stat, counted behind the command's name (proc_pid_stat(5), starttime)


class Process(Struct, frozen=True):
    """``started`` is the system's own word for the time of start, which no change of the clock alters."""

    pid: Annotated[int, Meta(gt=1)]
    started: str

    @property
    def is_alive(self) -> bool:
        return started(self.pid) == self.started

    def end(self, within_s: float) -> bool:
        """Ends it, by SIGKILL if SIGTERM does not; whether it is gone then."""
        numbers = (signal.SIGTERM, signal.SIGKILL)
        return any(not self.signal(number) or self._is_gone(within_s) for number in numbers)

    def signal(self, number: int) -> bool:
        """Sends a signal to this very process; False where it is gone, or another user's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not hasattr(os, "pidfd_open"):
                if self.is_alive:
                    os.kill(self.pid, number)
                    return True
                return False
            handle = os.pidfd_open(self.pid)
            try:
                if self.is_alive:  # looked at behind the handle, which stays with the process
                    signal.pidfd_send_signal(handle, number)
                    return True
            finally:
                os.close(handle)
        return False

    def _is_gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.is_alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True

    @property
    def memory_bytes(self) -> int | None:
        """What ending it would free: memory of its own, swap included, without mapped files; None if unknown."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace").splitlines()
        except OSError:
            return self._resident_bytes
        rows = dict(line.split(":", 1) for line in lines if ":" in line)
        if "RssAnon" not in rows:
            return self._resident_bytes
        return sum(int(rows[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem", "VmSwap") if name in rows)

    @property
    def _resident_bytes(self) -> int | None:
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return None


def started(pid: int) -> str | None:
    """When process ``pid`` began; None if there is none (one that has ended and isn't fetched yet is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    return None if fields[0] in (b"Z", b"X") else f"{boot} {fields[STARTED_FIELD].decode()}"


def _started_elsewhere(pid: int) -> str | None:
    """As the system's library tells it, where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
