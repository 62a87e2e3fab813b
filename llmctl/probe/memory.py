"""Memory that can be had: the machine's and the container's, whichever is less."""

from __future__ import annotations

from llmctl import units
from llmctl.host import Host
from llmctl.probe import cgroup, macos
from llmctl.probe.described.document import CORRECT
from llmctl.probe.portable import portable
from llmctl.probe.text import pairs, whole
from llmctl.types.machine import Memory, Note

# What MemAvailable is made of besides MemFree
RECLAIMABLE = ("Active(file)", "Inactive(file)", "SReclaimable")
MOUNTS = "/proc/self/mountinfo"
LARGEST_BYTES = 1 << 62  # more is no memory that a computer has


def memory(host: Host) -> tuple[Memory, tuple[Note, ...]]:
    """Memory in bytes and notes on what could not be learnt.

    available = min(MemAvailable, for each limit: limit - (current - page cache)). Both sides count page cache as
    available, active or not: the kernel reclaims it before it kills (si_mem_available() in mm/show_mem.c). Neither
    counts shared memory, nor huge pages that were set aside, though they are part of MemTotal.
    """
    fields = pairs(host.read("/proc/meminfo"), ":")
    total = _kib(fields.get("MemTotal"))
    if not total:
        if host.system == "linux":
            return Memory(0, 0), (Note("/proc/meminfo does not tell how much memory there is", CORRECT),)
        return _portable(host)
    available = _kib(fields.get("MemAvailable"))
    notes: tuple[Note, ...] = ()
    if available is None:  # Linux before 3.14, and files cut short
        available = sum(_kib(fields.get(kind)) or 0 for kind in ("MemFree", *RECLAIMABLE))
        notes = (
            Note("/proc/meminfo has no MemAvailable; free memory and the page cache it lists are counted instead"),
        )
    cache = _zfs_cache(host, total - available)
    if cache:
        message = f"{units.size(cache)} of memory are counted as available that ZFS's cache holds and gives back (ARC)"
        notes += (Note(message),)
    limits = [limit for limit in cgroup.memory_limits(host) if limit.limit_bytes < total]
    tightest = min(limits, key=lambda limit: limit.limit_bytes, default=None)
    return Memory(
        total_bytes=total,
        available_bytes=min([available + cache, total, *(limit.left_bytes for limit in limits)]),
        limit_bytes=tightest.limit_bytes if tightest else None,
        limit_source=tightest.source if tightest else None,
        swap_bytes=_kib(fields.get("SwapTotal")) or 0,
    ), notes


def _zfs_cache(host: Host, used: int) -> int:
    """Bytes that ZFS's cache would give back: what is above the least that it keeps (c_min). The kernel counts all of
    it as used, not as page cache (openzfs/zfs#10255).

    0 where it isn't part of the bytes ``used`` by /proc/meminfo: with lxcfs those are the container's, and the cache is
    the host's.
    """
    if any(words[4:5] == ["/proc/meminfo"] for words in map(str.split, (host.read(MOUNTS) or "").splitlines())):
        return 0
    rows = [row.split() for row in (host.read("/proc/spl/kstat/zfs/arcstats") or "").splitlines()]
    figures = {row[0]: whole(row[2]) for row in rows if len(row) == 3}
    size, least = figures.get("size"), figures.get("c_min")
    if size is None or least is None or not least < size <= used:
        return 0
    return size - least


def _portable(host: Host) -> tuple[Memory, tuple[Note, ...]]:
    """Memory where there is no /proc."""
    if host.system == "darwin" and (mac := macos.memory(host)):
        return mac, ()
    facts, why = portable(host)
    if facts is None:
        return Memory(0, 0), (Note(f"how much memory there is can't be learnt: {why}", CORRECT),)
    return Memory(facts.memory_total_bytes, facts.memory_available_bytes, swap_bytes=facts.swap_bytes), ()


def _kib(value: str | None) -> int | None:
    """The kernel's "8245000 kB" in bytes; without its unit it may be a line that was cut short."""
    number = whole(value.removesuffix(" kB")) if value and value.endswith(" kB") else None
    return None if number is None or number * 1024 > LARGEST_BYTES else number * 1024
