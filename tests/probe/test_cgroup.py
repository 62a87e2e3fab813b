"""Limits of containers: cgroup v2 and v1, seen from everywhere that a process may look from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.cgroup import cpu_quota, memory_limits, oom_kills, was_oom_since

V2 = "30 23 0:26 {top} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw\n"
V1 = "31 23 0:30 {top} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
V1_CPU = "32 23 0:31 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
GROUPS = "sys/fs/cgroup"
NO_LIMIT = "9223372036854771712"  # version 1's word for it, as much as its counter of pages holds


def host(root: Path, group: str, mounts: str, files: Mapping[str, str]) -> Host:
    for name, text in {"proc/self/cgroup": group, "proc/self/mountinfo": mounts, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Host(root=root, environ={}, system="linux")


@pytest.mark.parametrize(
    ("group", "mounts", "files", "expected"),
    [
        pytest.param("0::/\n", V2.format(top="/"), {"memory.max": "100\n"}, [(100, 100)], id="nothing used"),
        pytest.param("0::/\n", V2.format(top="/"), {"memory.max": "max\n", "memory.current": "9\n"}, [], id="max"),
        pytest.param(
            "0::/\n", V2.format(top="/"), {"memory.max": "100\n", "memory.current": "70\n"}, [(100, 30)], id="used"
        ),
        pytest.param(
            "0::/\n", V2.format(top="/"), {"memory.max": "100\n", "memory.current": "170\n"}, [(100, 0)], id="overrun"
        ),
        pytest.param(
            "0::/\n",
            V2.format(top="/"),
            {
                "memory.max": "1000\n",
                "memory.current": "900\n",
                "memory.stat": "\t\nanon 200\nfile 450\nshmem 50\ninactive_file 300\nactive_file 100\n"
                "slab_reclaimable 150\n",
            },
            [(1000, 650)],
            id="page cache and slab are free, shared memory is used",
        ),
        pytest.param(
            "0::/\n",
            V2.format(top="/"),
            {"memory.max": "max\n", "memory.high": "80\n", "memory.current": "30\n"},
            [(80, 50)],
            id="memory.high",
        ),
        pytest.param(
            "0::/\n", V2.format(top="/"), {"memory.max": "100\n", "memory.swap.max": "1\n"}, [(100, 100)], id="no swap"
        ),
        pytest.param(
            "0::/a.slice/b.scope\n",
            V2.format(top="/"),
            {"a.slice/b.scope/memory.max": "max\n", "a.slice/memory.max": "60\n", "a.slice/memory.current": "20\n"},
            [(60, 40)],
            id="up the tree",
        ),
        pytest.param(
            "0::/a.slice/b.scope (deleted)\n",
            V2.format(top="/"),
            {"a.slice/memory.max": "60\n"},
            [(60, 60)],
            id="a group that is gone",
        ),
        pytest.param(
            "0::/docker/1\n", V2.format(top="/docker/1"), {"memory.max": "7\n"}, [(7, 7)], id="the host's path"
        ),
        pytest.param(
            "0::/docker/1/sub\n",
            V2.format(top="/docker/1"),
            {"memory.max": "7\n", "sub/memory.max": "5\n"},
            [(5, 5), (7, 7)],
            id="below the host's path",
        ),
        pytest.param("0::/\n", V2.format(top="/../.."), {"memory.max": "7\n"}, [(7, 7)], id="a mount from above"),
        pytest.param("0::/../other\n", V2.format(top="/"), {"memory.max": "7\n"}, [(7, 7)], id="a group from above"),
        pytest.param(
            "0::/app-a\\x2db.scope/a b\n",
            V2.format(top="/app-a\\134x2db.scope"),
            {"a b/memory.max": "7\n"},
            [(7, 7)],
            id="names that mountinfo escapes",
        ),
        pytest.param("", "", {"memory.max": "7\n"}, [(7, 7)], id="no /proc/self"),
        pytest.param(
            "4:memory:/\n",
            V1.format(top="/"),
            {"memory/memory.limit_in_bytes": NO_LIMIT},
            [(int(NO_LIMIT), int(NO_LIMIT))],
            id="version 1 without a limit",
        ),
        pytest.param(
            "4:memory:/docker/1\n",
            V1.format(top="/docker/1"),
            {
                "memory/memory.limit_in_bytes": "1000\n",
                "memory/memory.usage_in_bytes": "900\n",
                "memory/memory.stat": "inactive_file 1\nhierarchical_memory_limit 1000\ntotal_inactive_file 200\n"
                "total_active_file 100\n",
            },
            [(1000, 400), (1000, 400)],
            id="version 1",
        ),
        pytest.param(
            "4:memory:/lxc/1/a\n",
            V1.format(top="/lxc/1/a"),
            {
                "memory/memory.limit_in_bytes": NO_LIMIT,
                "memory/memory.usage_in_bytes": "100\n",
                "memory/memory.stat": "hierarchical_memory_limit 500\n",
            },
            [(int(NO_LIMIT), int(NO_LIMIT) - 100), (500, 400)],
            id="version 1, limited out of sight",
        ),
        pytest.param(
            "4:memory:/a\n0::/b\n",
            V1.format(top="/") + "40 23 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            {"memory/a/memory.limit_in_bytes": "8\n", "unified/b/cgroup.procs": ""},
            [(8, 8)],
            id="both versions",
        ),
        pytest.param(
            "0::/\n", "30 23 0:26 / /sys/../x rw - cgroup2 cgroup rw\n", {"memory.max": "7\n"}, [(7, 7)], id=".."
        ),
    ],
)
def test_memory_limits(
    tmp_path: Path, group: str, mounts: str, files: dict[str, str], expected: list[tuple[int, int]]
) -> None:
    place = host(tmp_path, group, mounts, {f"{GROUPS}/{name}": text for name, text in files.items()})
    assert [(limit.limit_bytes, limit.left_bytes) for limit in memory_limits(place)] == expected


def test_a_limit_names_its_file(tmp_path: Path) -> None:
    files = {f"{GROUPS}/user.slice/memory.high": "5\n"}
    (limit,) = memory_limits(host(tmp_path, "0::/user.slice/user-1.slice\n", V2.format(top="/"), files))
    assert limit.source == "/sys/fs/cgroup/user.slice/memory.high"


@pytest.mark.parametrize(
    ("group", "mounts", "files", "quota"),
    [
        ("0::/\n", V2.format(top="/"), {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "150000 0\n"}, None),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "400000"}, None),
        ("0::/a/b\n", V2.format(top="/"), {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "50000 20000\n"}, 2.5),
        ("0::/a/b\n", V2.format(top="/"), {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "max 100000\n"}, 1.0),
        ("2:cpu,cpuacct:/\n", V1_CPU.format(top="/"), {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n"}, None),
        (
            "2:cpu,cpuacct:/docker/1\n",
            V1_CPU.format(top="/docker/1"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
    ],
)
def test_cpu_quota(tmp_path: Path, group: str, mounts: str, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(host(tmp_path, group, mounts, {f"{GROUPS}/{name}": text for name, text in files.items()})) == quota


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({"sys/fs/cgroup/memory.events": "oom 3\noom_kill 2\n", "proc/vmstat": "oom_kill 9\n"}, 2),
        ({"sys/fs/cgroup/memory/memory.oom_control": "under_oom 0\noom_kill 1\n"}, 1),
        ({"proc/vmstat": "pgfault 5\noom_kill 9\n"}, 9),
        ({}, None),
    ],
)
def test_processes_that_were_ended_for_want_of_memory(
    tmp_path: Path, files: Mapping[str, str], kills: int | None
) -> None:
    seen = host(tmp_path, "0::/\n", "" if files else V2.format(top="/"), files)
    assert oom_kills(seen) == kills
    assert not was_oom_since(seen, kills)
    assert kills is None or was_oom_since(seen, kills - 1)
