"""The container's limits: cgroup v2 and v1, from our own group up the tree to the highest one that can be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.text import line, pairs, whole

DEEPEST = 64
# What a group's memory.stat says of memory that the kernel takes back before it kills. Shared memory is in neither:
# the kernel keeps it on the anonymous lists (Documentation/admin-guide/cgroup-v2.rst). Version 1 tells nothing of slab.
RECLAIMABLE = {
    2: ("inactive_file", "active_file", "slab_reclaimable"),
    1: ("total_inactive_file", "total_active_file"),
}


class MemoryLimit(Struct, frozen=True):
    """``left_bytes``: what may still be taken; what can be reclaimed counts as free."""

    limit_bytes: int
    left_bytes: int
    source: str


def memory_limits(host: Host) -> list[MemoryLimit]:
    """Every limit on the way up, "max" left out; the tightest one is the caller's choice, since each group has
    other members to share with."""
    every = []
    for version, folder in _groups(host, "memory"):
        if version == 2:
            # memory.high does not kill, it slows everything down to the speed of reclaim: a limit all the same
            names, usage = ["memory.max", "memory.high"], "memory.current"
        else:
            names, usage = ["memory.limit_in_bytes"], "memory.usage_in_bytes"
        stat = pairs(host.read(f"{folder}/memory.stat"))
        reclaimable = sum(whole(stat.get(kind)) or 0 for kind in RECLAIMABLE[version])
        used = max(0, (whole(host.read(f"{folder}/{usage}")) or 0) - reclaimable)
        limits = [(f"{folder}/{name}", whole(host.read(f"{folder}/{name}"))) for name in names]
        if version == 1:  # a limit further up may be out of sight; the kernel repeats the tightest one here
            limits.append((f"{folder}/memory.stat", whole(stat.get("hierarchical_memory_limit"))))
        every += [
            MemoryLimit(limit, max(0, limit - used), line(source)) for source, limit in limits if limit is not None
        ]
    return every


def oom_kills(host: Host) -> int | None:
    """How many processes of our group the kernel has ended because memory ran out, or of the whole machine where it
    doesn't count by group; None where it doesn't tell. Only its growth says something."""
    for version, folder in _groups(host, "memory"):
        events = pairs(host.read(f"{folder}/{'memory.events' if version == 2 else 'memory.oom_control'}"))
        if (kills := whole(events.get("oom_kill"))) is not None:
            return kills
    return whole(pairs(host.read("/proc/vmstat")).get("oom_kill"))


def was_oom_since(host: Host, kills: int | None) -> bool:
    """Whether the kernel has ended a process for want of memory since ``oom_kills`` gave that number."""
    return kills is not None and (oom_kills(host) or 0) > kills


def cpu_quota(host: Host) -> float | None:
    """CPUs' worth of time that may be used, the tightest on the way up; None without a quota."""
    quotas = []
    for version, folder in _groups(host, "cpu"):
        if version == 2:
            words = (host.read(f"{folder}/cpu.max") or "").split()
            quota, period = (whole(words[0]), whole(words[1])) if len(words) == 2 else (None, None)
        else:
            quota = whole(host.read(f"{folder}/cpu.cfs_quota_us"))  # "-1" means none
            period = whole(host.read(f"{folder}/cpu.cfs_period_us"))
        if quota and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _groups(host: Host, controller: str) -> Iterator[tuple[int, str]]:
    """Version and folder of our group and of every group above it that is mounted where we can see it."""
    paths: dict[str, str] = {}
    for membership in (host.read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = membership.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            paths[name] = path
    for version, mounted_group, place in _mounts(host, controller):
        group = paths.get("" if version == 2 else controller, "/")
        yield from ((version, folder) for folder in _upwards(place, _below(group, mounted_group)))


def _mounts(host: Host, controller: str) -> list[tuple[int, str, str]]:
    """(version, group at the top of the mount, where it is mounted), see proc_pid_mountinfo(5)."""
    mounts = []
    for text in (host.read("/proc/self/mountinfo") or "").splitlines():
        before, _, after = text.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) < 5 or len(right) < 3:
            continue
        top, place = _plain(left[3]), _plain(left[4])
        if ".." in PurePosixPath(place).parts:  # the kernel writes none
            continue
        if right[0] == "cgroup2":
            mounts.append((2, top, place))
        elif right[0] == "cgroup" and controller in right[2].split(","):
            mounts.append((1, top, place))
    return mounts or [(2, "/", "/sys/fs/cgroup"), (1, "/", f"/sys/fs/cgroup/{controller}")]


def _plain(escaped: str) -> str:
    r"""mountinfo writes blanks and backslashes in octal: a unit named "a\x2db" is mounted at "a\134x2db"."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), escaped)


def _below(group: str, top: str) -> PurePosixPath:
    """Our group relative to the top of the mount. In a container the two may be told from different roots
    (``/../..``, or the host's path); then only the top of the mount can be seen: ours, or one that ours is in."""
    path = PurePosixPath(group)
    if ".." not in path.parts:
        try:
            return path.relative_to(top)
        except ValueError:
            pass
    return PurePosixPath()


def _upwards(place: str, below: PurePosixPath) -> Iterator[str]:
    parts = below.parts[:DEEPEST]
    for length in range(len(parts), -1, -1):
        yield str(PurePosixPath(place, *parts[:length]))
