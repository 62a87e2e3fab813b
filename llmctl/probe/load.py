"""How busy the machine is beside us, by the kernel's own counters at two moments. Linux only; nothing here raises."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.text import line, whole
from llmctl.types.load import LEAST_TOLD, Load

CALM_CORES = 0.2  # of other programs: a quiet machine's own services
LEAST_SHARE = 0.3  # of what others had, for a program to be named
HEAT_COUNTS = "/sys/devices/system/cpu/cpu0/thermal_throttle/{}_throttle_count"
TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# /proc/stat's columns, proc_stat(5); guests' time is in user and nice already.
USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL = 0, 1, 2, 5, 6, 7
# /proc/PID/stat's, after the name in brackets, which may hold blanks.
PARENT, UTIME, STIME = 1, 11, 12
PRESSURE = "/proc/pressure/{}"  # Documentation/accounting/psi.rst, since Linux 4.20 and where it is switched on
KERNEL = "2"  # kthreadd, the parent of the kernel's own threads


class ProcessTime(NamedTuple):
    name: str
    ours: bool
    ticks: int


class Pressure(NamedTuple):
    """Seconds since the machine's start in which some program waited for a core, and for memory to be freed."""

    cpu_s: float = 0.0
    memory_s: float = 0.0


class Moment(Struct, frozen=True):
    """The counters at one moment. ``own_s`` are seconds that this process and the children that ended have computed;
    ``pressure`` is None where the kernel doesn't count it."""

    at_s: float
    busy_ticks: int
    stolen_ticks: int
    own_s: float
    heat_count: int
    processes: Mapping[int, ProcessTime]
    pressure: Pressure | None = None


def moment(host: Host, *, processes: bool = False) -> Moment | None:
    """The counters now; each process's with ``processes``, which takes some milliseconds. None where the kernel tells
    none, and for a recorded machine."""
    words = (host.read("/proc/stat") or "").split("\n", 1)[0].split()
    ticks = [whole(word) for word in words[1:9]]
    if not host.live or len(ticks) < 8 or words[0] != "cpu":
        return None
    counts = [tick or 0 for tick in ticks]
    times = os.times()
    return Moment(
        at_s=time.monotonic(),
        busy_ticks=sum(counts[column] for column in (USER, NICE, SYSTEM, IRQ, SOFTIRQ)),
        stolen_ticks=counts[STEAL],
        own_s=times.user + times.system + times.children_user + times.children_system,
        heat_count=sum(whole(host.read(HEAT_COUNTS.format(part))) or 0 for part in ("core", "package")),
        processes=_processes(host) if processes else {},
        pressure=pressure(host),
    )


def pressure(host: Host) -> Pressure | None:
    """What the kernel counts of programs that waited; None where it doesn't."""
    cpu_s, memory_s = (_waited_s(host.read(PRESSURE.format(part))) for part in ("cpu", "memory"))
    return None if cpu_s is None or memory_s is None else Pressure(cpu_s, memory_s)


def _waited_s(text: str | None) -> float | None:
    """The total of the line "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345", microseconds there."""
    words = (text or "").split("\n", 1)[0].split()
    total_us = whole(words[-1].removeprefix("total=")) if words[:1] == ["some"] else None
    return None if total_us is None else total_us / 1e6


def load(before: Moment | None, now: Moment | None) -> Load | None:
    """What else computed between two moments; None where that isn't known, or nothing worth a word did."""
    if before is None or now is None or now.at_s <= before.at_s:
        return None
    took_s = now.at_s - before.at_s
    busy_s = (now.busy_ticks - before.busy_ticks) / TICKS_PER_S
    others_s = max(0.0, busy_s - (now.own_s - before.own_s))
    stolen_s = max(0, now.stolen_ticks - before.stolen_ticks) / TICKS_PER_S
    heat = now.heat_count > before.heat_count
    waiting, short_of_memory = _shares_waited(before.pressure, now.pressure, took_s)
    if max(others_s / took_s, stolen_s / took_s, waiting) < CALM_CORES and short_of_memory < LEAST_TOLD and not heat:
        return None
    return Load(
        other_cores=round(others_s / took_s, 2),
        stolen_cores=round(stolen_s / took_s, 2),
        heat=heat,
        program=_most_busy(before.processes, now.processes, others_s),
        waiting=round(waiting, 2),
        short_of_memory=round(short_of_memory, 2),
    )


def _shares_waited(before: Pressure | None, now: Pressure | None, took_s: float) -> tuple[float, float]:
    """The shares of ``took_s`` in which a program waited for a core, and for memory."""
    if before is None or now is None:
        return 0.0, 0.0
    shares = [min(1.0, max(0.0, after_s - before_s) / took_s) for before_s, after_s in zip(before, now, strict=True)]
    return shares[0], shares[1]


def _most_busy(before: Mapping[int, ProcessTime], now: Mapping[int, ProcessTime], others_s: float) -> str | None:
    """The name that most of the others' time stands under, all processes of that name together."""
    used: dict[tuple[str, bool], int] = {}
    for pid, process in now.items():
        earlier = before[pid].ticks if pid in before and before[pid].name == process.name else 0
        key = process.name, process.ours
        used[key] = used.get(key, 0) + max(0, process.ticks - earlier)
    if not used:
        return None
    name, ours = max(used, key=lambda key: used[key])
    stands_out = used[name, ours] / TICKS_PER_S >= LEAST_SHARE * others_s > 0
    return name if ours and stands_out else None


def _processes(host: Host) -> dict[int, ProcessTime]:
    """Of all that can be seen but this process and the kernel's threads."""
    processes: dict[int, ProcessTime] = {}
    try:
        numbers = [int(entry.name) for entry in os.scandir(host.path("/proc")) if entry.name.isdigit()]
    except OSError:
        return processes
    for pid in numbers:
        before, _, after = (host.read(f"/proc/{pid}/stat") or "").rpartition(")")
        fields = after.split()
        if pid != os.getpid() and len(fields) > STIME and fields[PARENT] != KERNEL:
            ticks = (whole(fields[UTIME]) or 0) + (whole(fields[STIME]) or 0)
            processes[pid] = ProcessTime(line(before.partition("(")[2]), _is_ours(host, pid), ticks)
    return processes


def _is_ours(host: Host, pid: int) -> bool:
    try:
        return os.stat(host.path(f"/proc/{pid}")).st_uid == os.getuid()  # noqa: PTH116  a hundred of them
    except OSError:
        return False
