"""Counts how often other programs took a core away from this process. Only for child processes that compute."""

from __future__ import annotations

FIRST_LINE_BYTES, STEAL = 256, 8  # of /proc/stat, proc_stat(5)
LEAST_S = 0.1  # of computing, so that a single interruption of a short piece of work is not ten a second


class Preemption:
    """Counts preemptions since ``begin``. The threads of llama.cpp wait for each other at every layer, so one that lost
    its core holds up all of them, and what is measured meanwhile is too slow."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._begun = _used()

    def per_s(self) -> float | None:
        """Preemptions for each second that a core has computed; None where the system doesn't count them (Windows)."""
        begun, now = self._begun, _used()
        if begun is None or now is None:
            return None
        return (now[0] - begun[0]) / max(now[1] - begun[1], LEAST_S)


def involuntary_switches() -> int | None:
    """How often threads of this process lost their core to another program; None where the system doesn't count."""
    used = _used()
    return None if used is None else used[0]


def stolen_ticks() -> int:
    """How often, since the machine began, the clock's tick found that a core was another virtual machine's; 0 where
    the kernel doesn't tell."""
    try:
        with open("/proc/stat", "rb", buffering=0) as file:  # noqa: PTH123  before and after each pass
            words = file.read(FIRST_LINE_BYTES).split(b"\n", 1)[0].split()
        return int(words[STEAL])
    except (OSError, IndexError, ValueError):
        return 0


def _used() -> tuple[int, float] | None:
    """Involuntary context switches and seconds of computing of all threads: getrusage(2)."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_nivcsw, usage.ru_utime + usage.ru_stime
