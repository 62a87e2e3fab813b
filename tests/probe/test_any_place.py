"""A Linux machine in order, some of whose files are missing, cut short, or hold anything: what the probes make of it
is sound. (The files of ``test_any_bytes`` hold nothing but noise, so few of them get past the first check.)"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from llmctl.files.decode import decode
from llmctl.host import Host
from llmctl.probe import cpu, memory, system
from llmctl.struct import asdict
from llmctl.types.machine import Machine
from tests.probe.test_any_bytes import CONTENTS
from tests.properties import examples

PROCESSOR = (
    "processor\t: {0}\nmodel name\t: A CPU\nphysical id\t: 0\nsiblings\t: 4\ncore id\t\t: {1}\ncpu cores\t: 2\n"
    "flags\t\t: lm pni avx2 hypervisor\n\n"
)
PLACE = {
    "proc/cpuinfo": "".join(PROCESSOR.format(number, number % 2) for number in range(4)),
    "proc/meminfo": "MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\nActive(file): 50 kB\nSwapTotal: 9 kB\n",
    "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-1\n",
    "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n0::/a b/c\n",
    "proc/self/mountinfo": "1 2 3 / /sys/fs/cgroup rw - cgroup2 x x\n1 2 3 /a /v1/memory rw - cgroup x memory\n"
    "1 2 3 / /v1/cpu rw - cgroup x cpu,cpuacct\n",
    "proc/1/cgroup": "0::/system.slice/docker-1.scope\n",
    "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/devices/cpu_core/cpus": "0,2\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc\n",
    "sys/fs/cgroup/a b/c/memory.max": "max\n",
    "sys/fs/cgroup/a b/memory.max": "600000\n",
    "sys/fs/cgroup/a b/memory.high": "500000\n",
    "sys/fs/cgroup/a b/memory.current": "400000\n",
    "sys/fs/cgroup/a b/memory.stat": "inactive_file 100000\nactive_file 50000\nslab_reclaimable 1\n",
    "sys/fs/cgroup/a b/c/cpu.max": "150000 100000\n",
    "v1/memory/memory.limit_in_bytes": "700000\n",
    "v1/memory/memory.usage_in_bytes": "300000\n",
    "v1/memory/memory.stat": "hierarchical_memory_limit 650000\ntotal_inactive_file 9\n",
    "v1/cpu/a/cpu.cfs_quota_us": "100000\n",
    "v1/cpu/a/cpu.cfs_period_us": "100000\n",
} | {
    f"sys/devices/system/cpu/cpu{number}/{name}": text
    for number in range(4)
    for name, text in {
        "topology/core_cpus_list": f"{number % 2},{number % 2 + 2}\n",
        "cpu_capacity": f"{1024 >> number % 2}\n",
        "cache/index0/shared_cpu_list": f"{number % 2},{number % 2 + 2}\n",
        "cache/index0/level": "1\n",
        "cache/index0/type": "Data\n",
        "cache/index0/size": "32K\n",
    }.items()
}


def spoilt(text: str) -> st.SearchStrategy[bytes]:
    """In order, cut short, or something else altogether."""
    sound = text.encode()
    cut = st.integers(0, len(sound)).map(lambda length: sound[:length])
    return st.one_of(st.just(sound), st.just(sound), cut, CONTENTS)


PLACES = st.fixed_dictionaries({}, optional={name: spoilt(text) for name, text in PLACE.items()})
ENVIRONMENTS = st.sampled_from([{}, {"container": "lxc"}, {"container": "\x1b"}])


@examples(100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(contents=PLACES, environ=ENVIRONMENTS)
def test_a_place_is_sound_whatever_its_files_hold(
    tmp_path: Path, contents: dict[str, bytes], environ: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        for name, data in contents.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        host = Host(root=Path(folder), environ=environ, system="linux")
        (processor, notes), (main, more), place = cpu.cpu(host), memory.memory(host), system.system(host)
        assert cpu.name(host) == processor.name
    assert 0 <= main.available_bytes <= main.total_bytes
    assert main.limit_bytes is None or (main.limit_bytes < main.total_bytes and main.limit_source)
    assert 1 <= processor.usable_threads <= processor.physical_cores <= processor.logical_cores
    assert processor.usable_threads_reason
    assert processor.performance_cores is None or 0 < processor.performance_cores < processor.physical_cores
    for cache in processor.caches:
        assert 0 < cache.size_bytes <= 4 << 30
        assert 1 <= cache.count <= 10 * processor.physical_cores
    machine = Machine(main, processor, os=place.os, container=place.container, board=place.board, notes=notes + more)
    assert decode(Machine, asdict(machine), "machine") == machine  # the document that --machine takes
    texts = (processor.name, processor.arch, *asdict(place).values(), main.limit_source)
    texts += tuple(text for note in notes + more for text in (note.message, note.remedy))
    assert all(text.isprintable() and len(text) < 300 for text in texts if text is not None)
