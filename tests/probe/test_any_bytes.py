"""No probe raises, whatever bytes stand in /proc and /sys, and what it returns is a sound machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmctl.host import Host
from llmctl.probe import probe
from llmctl.probe.text import cpu_list

FILES = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/self/status",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/device-tree/model",
    "run/systemd/container",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu0/cache/index3/level",
    "sys/devices/system/cpu/cpu0/cache/index3/size",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/memory/memory.stat",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/class/drm/card0/device/vendor",
    "sys/class/drm/card0/device/uevent",
    "sys/class/drm/card0/device/mem_info_vram_total",
    "sys/class/drm/card0/device/mem_info_vram_used",
)
NUMBERS = st.one_of(st.integers().map(str), st.just("9" * 5000), st.sampled_from(["max", "-1", "0", "٣", "²"]))
LINES = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "processor\t: ",
                "core id : ",
                "physical id:",
                "flags : ",
                "MemTotal: ",
                "MemAvailable: ",
                "SwapTotal: ",
                "Cpus_allowed_list:",
                "inactive_file ",
                "0::/",
                "4:memory:",
                "1 2 3 / /sys/fs/cgroup rw - cgroup2 x ",
                "1 2 3 /a /sys/fs/cgroup/memory rw - cgroup x memory",
                "0-",
                "PCI_SLOT_NAME=",
                "0x1002",
            ]
        ),
        NUMBERS,
    ).map("".join),
    NUMBERS,
    st.text(max_size=20),
)
CONTENTS = st.one_of(
    st.binary(max_size=60), st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FILES), CONTENTS, max_size=len(FILES)))
def test_no_probe_raises(contents: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        host = Host(root=Path(folder), environ={})
        machine = probe(host, store=Path("/models"))
    assert 0 <= machine.memory.available_bytes <= machine.memory.total_bytes
    assert machine.memory.limit_bytes is None or machine.memory.limit_bytes < machine.memory.total_bytes
    assert 1 <= machine.cpu.usable_threads <= machine.cpu.physical_cores <= machine.cpu.logical_cores


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpu_lists_round_trip(cpus: set[int]) -> None:
    assert cpu_list(",".join(map(str, sorted(cpus)))) == cpus


def test_cpu_list_of_ranges() -> None:
    assert cpu_list("0-2,8,10-11\n") == {0, 1, 2, 8, 10, 11}
    assert cpu_list("0-99999999") == cpu_list("3-1") == cpu_list("") == cpu_list(None) == frozenset()
