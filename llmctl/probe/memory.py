"""Memory that can be had: the machine's and the container's, whichever is less."""

from __future__ import annotations

from llmctl.host import Host
from llmctl.probe import cgroup
from llmctl.probe.portable import portable
from llmctl.probe.text import pairs, whole
from llmctl.types.machine import Memory


def memory(host: Host) -> tuple[Memory, tuple[str, ...]]:
    """Memory in bytes and notes on what could not be learnt.

    available = min(MemAvailable, for each limit: limit - (current - page cache)). Both sides count page cache as
    available, active or not: the kernel reclaims it before it kills (si_mem_available() in mm/show_mem.c).
    """
    fields = pairs(host.read("/proc/meminfo"), ":")
    total = _kib(fields.get("MemTotal"))
    if not total:
        if host.system == "linux":
            return Memory(0, 0), ("/proc/meminfo does not tell how much memory there is",)
        return _portable(host)
    available = _kib(fields.get("MemAvailable"))
    notes: tuple[str, ...] = ()
    if available is None:  # Linux before 3.14, and files cut short
        available = _kib(fields.get("MemFree")) or 0
        notes = ("/proc/meminfo has no MemAvailable; free memory is counted without page cache",)
    limits = [limit for limit in cgroup.memory_limits(host) if limit.limit_bytes < total]
    tightest = min(limits, key=lambda limit: limit.limit_bytes, default=None)
    return Memory(
        total_bytes=total,
        available_bytes=min([available, total, *(limit.left_bytes for limit in limits)]),
        limit_bytes=tightest.limit_bytes if tightest else None,
        limit_source=tightest.source if tightest else None,
        swap_bytes=_kib(fields.get("SwapTotal")) or 0,
    ), notes


def _portable(host: Host) -> tuple[Memory, tuple[str, ...]]:
    """Memory where there is no /proc."""
    told, why = portable(host)
    if told is None:
        return Memory(0, 0), (f"how much memory there is can't be learnt: {why}",)
    return Memory(told.memory_total_bytes, told.memory_available_bytes, swap_bytes=told.swap_bytes), ()


def _kib(value: str | None) -> int | None:
    words = (value or "").split()
    number = whole(words[0]) if words else None
    return None if number is None else number * 1024
