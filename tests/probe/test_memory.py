"""Memory that can be had, in bytes, of what /proc/meminfo and the limits say."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.memory import memory
from llmctl.types.machine import Memory

KIB = 1024
LIMIT = "/sys/fs/cgroup/memory.max"


@pytest.mark.parametrize(
    ("meminfo", "limit", "current", "expected"),
    [
        pytest.param("MemTotal: 900 kB\nMemAvailable: 500 kB\n", None, 0, Memory(900 * KIB, 500 * KIB), id="plain"),
        pytest.param(
            "MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable: 500 kB\nSwapTotal: 7 kB\nZswap: 3 kB\nZswapped: 5 kB\n",
            None,
            0,
            Memory(900 * KIB, 500 * KIB, swap_bytes=7 * KIB),
            id="swap, zswap is part of it",
        ),
        pytest.param(
            # a database's huge pages: neither free nor available, though nobody uses them
            "MemTotal: 900 kB\nMemFree: 90 kB\nMemAvailable: 120 kB\nHugePages_Free: 3\nHugepagesize: 200 kB\n",
            None,
            0,
            Memory(900 * KIB, 120 * KIB),
            id="huge pages set aside",
        ),
        pytest.param(
            "MemTotal: 900 kB\nMemAvailable: 500 kB\n",
            300 * KIB,
            100 * KIB,
            Memory(900 * KIB, 200 * KIB, 300 * KIB, LIMIT),
            id="limited",
        ),
        pytest.param(
            "MemTotal: 900 kB\nMemAvailable: 50 kB\n",
            300 * KIB,
            100 * KIB,
            Memory(900 * KIB, 50 * KIB, 300 * KIB, LIMIT),
            id="the machine has less left than the container",
        ),
        pytest.param(
            "MemTotal: 900 kB\nMemAvailable: 500 kB\n",
            900 * KIB,
            800 * KIB,
            Memory(900 * KIB, 500 * KIB),
            id="a limit as large as the machine (lxcfs) is none",
        ),
        pytest.param(
            "MemTotal: 900 kB\nMemAvailable: 999 kB\n", None, 0, Memory(900 * KIB, 900 * KIB), id="more than there is"
        ),
        pytest.param(
            "MemTotal: 900 kB\nMemAvailable: 500 kB\nSwapTotal: 9999999999999999 kB\n",
            None,
            0,
            Memory(900 * KIB, 500 * KIB),
            id="absurd",
        ),
    ],
)
def test_memory(tmp_path: Path, meminfo: str, limit: int | None, current: int, expected: Memory) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(meminfo)
    if limit is not None:
        (tmp_path / LIMIT[1:]).parent.mkdir(parents=True)
        (tmp_path / LIMIT[1:]).write_text(f"{limit}\n")
        (tmp_path / "sys/fs/cgroup/memory.current").write_text(f"{current}\n")
    assert memory(Host(root=tmp_path, environ={}, system="linux")) == (expected, ())


@pytest.mark.parametrize(
    ("meminfo", "available_kib"),
    [
        ("MemTotal: 900 kB\nMemFree: 100 kB\n", 100),
        ("MemTotal: 900 kB\nMemFree: 100 kB\nActive(file): 50 kB\nInactive(file): 25 kB\nSReclaimable: 5 kB\n", 180),
        ("MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable:   8", 100),  # cut short, 800 kB or 8 can't be told
        ("MemTotal: 900 kB\n", 0),
    ],
)
def test_available_memory_without_the_kernels_figure(tmp_path: Path, meminfo: str, available_kib: int) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(meminfo)
    found, notes = memory(Host(root=tmp_path, environ={}, system="linux"))
    assert (found.total_bytes, found.available_bytes, len(notes)) == (900 * KIB, available_kib * KIB, 1)


ARC = "13 1 0x01 147 39984 1 2\nname                            type data\nhits 4 9\nc_min 4 {least}\nsize 4 {size}\n"
LXCFS = "512 480 0:60 /proc/meminfo /proc/meminfo rw,nosuid,nodev,relatime - fuse.lxcfs lxcfs rw\n"


@pytest.mark.parametrize(
    ("files", "available_kib"),
    [
        pytest.param({"arcstats": ARC.format(least=50 * KIB, size=450 * KIB)}, 700, id="above the least that it keeps"),
        pytest.param({"arcstats": ARC.format(least=50 * KIB, size=50 * KIB)}, 300, id="the least"),
        pytest.param({"arcstats": ARC.format(least=90 * KIB, size=50 * KIB)}, 300, id="less than the least"),
        pytest.param({"arcstats": ARC.format(least=0, size=600 * KIB)}, 900, id="all that is used"),
        pytest.param({"arcstats": ARC.format(least=0, size=601 * KIB)}, 300, id="more than is used"),
        pytest.param({"arcstats": ARC.format(least=0, size=1 << 62)}, 300, id="more than there is"),
        pytest.param({"arcstats": ARC.format(least=0, size=-5)}, 300, id="a negative size"),
        pytest.param({"arcstats": ARC.format(least="x", size=450 * KIB)}, 300, id="no least"),
        pytest.param({"arcstats": "size 4 460800\n"}, 300, id="cut short"),
        pytest.param({"arcstats": ""}, 300, id="empty"),
        pytest.param({"arcstats": "\0\n size\n4 4\n"}, 300, id="something else"),
        pytest.param({}, 300, id="no ZFS"),
        pytest.param(
            {"arcstats": ARC.format(least=50 * KIB, size=450 * KIB), "mountinfo": LXCFS}, 300, id="the host's, in lxcfs"
        ),
        pytest.param(
            {"arcstats": ARC.format(least=50 * KIB, size=450 * KIB), "limit": f"{500 * KIB}"}, 400, id="a limit is less"
        ),
    ],
)
def test_what_the_cache_of_zfs_gives_back_is_available(
    tmp_path: Path, files: dict[str, str], available_kib: int
) -> None:
    places = {
        "arcstats": "proc/spl/kstat/zfs/arcstats",
        "mountinfo": "proc/self/mountinfo",
        "limit": LIMIT[1:],
        "meminfo": "proc/meminfo",
        "usage": "sys/fs/cgroup/memory.current",
    }
    given = {"meminfo": "MemTotal: 900 kB\nMemAvailable: 300 kB\n", "usage": f"{100 * KIB}", **files}
    for name, text in given.items():
        place = tmp_path / places[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    found, notes = memory(Host(root=tmp_path, environ={}, system="linux"))
    assert found.available_bytes == available_kib * KIB
    assert len(notes) == (available_kib > 300)
