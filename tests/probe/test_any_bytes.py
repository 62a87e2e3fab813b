"""No probe raises, whatever bytes stand in /proc and /sys, and what it returns is a sound machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from llmctl.host import Host, Ran
from llmctl.probe import macos, memory, probe
from llmctl.probe.gpu import amd, apple, intel
from llmctl.probe.recorded.recording import Recorded, RecordedReply, Recording
from llmctl.probe.text import cpu_list
from llmctl.types.machine import AcceleratorKind
from tests.properties import examples

FILES = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/self/status",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/bus/pci/devices",
    "proc/driver/nvidia/version",
    "dev/nvidiactl",
    "etc/nv_tegra_release",
    "etc/os-release",
    "run/systemd/container",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
    "sys/devices/system/cpu/cpu0/cpu_capacity",
    "sys/devices/system/cpu/cpu1/cpu_capacity",
    "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list",
    "sys/devices/system/cpu/cpu0/cache/index0/level",
    "sys/devices/system/cpu/cpu0/cache/index0/size",
    "sys/devices/system/cpu/cpu0/cache/index0/type",
    "sys/devices/system/cpu/cpu1/cache/index0/shared_cpu_list",
    "sys/devices/system/cpu/cpu1/cache/index0/size",
    "sys/devices/cpu_core/cpus",
    "sys/devices/soc0/machine",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/dmi/id/board_vendor",
    "sys/class/dmi/id/bios_vendor",
    "sys/hypervisor/type",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.high",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/memory/memory.usage_in_bytes",
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
                "hierarchical_memory_limit ",
                "CPU implementer : 0x",
                "CPU part : 0x",
                "siblings : ",
                "cpu cores : ",
                "isa : rv",
                "cpu : POWER",
                "cpu family : x\n\nprocessor : ",
                'PRETTY_NAME="(',
                "kvm-clock ",
                "Amazon EC2",
                "4.4.0-microsoft-standard ",
                "0::/docker/",
                "1 2 3 /\\134 /sys/fs/cgroup rw - cgroup2 x ",
                "PCI_SLOT_NAME=",
                "0x1002",
                "0x10de",
                "nvidia,tegra234\0",
                "# R36 (release), REVISION: ",
                "NVRM version: Kernel Module 550.",
                "ID=ubuntu",
                "0100\t10de2204\t" + "ffffffff\t" * 15 + "nouveau",
            ]
        ),
        NUMBERS,
    ).map("".join),
    st.tuples(
        st.sampled_from(["MemTotal: ", "MemFree: ", "MemAvailable: ", "Active(file): ", "SwapTotal: "]),
        NUMBERS,
        st.just(" kB"),
    ).map("".join),
    st.tuples(NUMBERS, st.just("K")).map("".join),
    NUMBERS,
    st.text(max_size=20),
)
CONTENTS = st.one_of(
    st.binary(max_size=60), st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))
)


@examples(100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(contents=st.dictionaries(st.sampled_from(FILES), CONTENTS, max_size=len(FILES)))
def test_no_probe_raises(tmp_path: Path, contents: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        for name, data in contents.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        host = Host(root=Path(folder), environ={})
        machine = probe(host, store=Path("/models"))
    assert 0 <= machine.memory.available_bytes <= machine.memory.total_bytes
    assert machine.memory.limit_bytes is None or machine.memory.limit_bytes < machine.memory.total_bytes
    assert 1 <= machine.cpu.usable_threads <= machine.cpu.physical_cores <= machine.cpu.logical_cores
    assert machine.cpu.usable_threads_reason
    assert machine.cpu.performance_cores is None or 0 < machine.cpu.performance_cores < machine.cpu.physical_cores
    texts = (machine.cpu.name, machine.cpu.arch, machine.os, machine.board, machine.virtual_machine)
    assert all(text is None or text.isprintable() for text in (*texts, machine.container, machine.memory.limit_source))


# A Mac in order, as sysctl, vm_stat and ioreg print it. The first of two lines of one name counts.
MAC = {
    "machdep.cpu.brand_string": "Apple M1",
    "hw.physicalcpu": "8",
    "hw.logicalcpu": "8",
    "hw.optional.arm64": "1",
    "hw.perflevel0.physicalcpu": "4",
    "hw.perflevel0.name": "Performance",
    "hw.perflevel0.l1dcachesize": "131072",
    "hw.perflevel0.l2cachesize": "12582912",
    "hw.perflevel0.cpusperl2": "4",
    "hw.perflevel1.physicalcpu": "4",
    "hw.perflevel1.name": "Efficiency",
    "hw.cachesize": "16 65536 4194304 0",
    "hw.cacheconfig": "8 1 4 0",
    "hw.memsize": "17179869184",
    "hw.model": "VirtualMac2,1",
    "iogpu.wired_limit_mb": "0",
    "kern.hv_vmm_present": "0",
    "kern.osproductversion": "26.1",
    "vm.swapusage": "total = 1024.00M",
    "Mach Virtual Memory Statistics": "(page size of 16384 bytes)",
    "Pages free": "7418.",
    "Pages inactive": "128302.",
    "Pages speculative": "1207.",
}
IOREG = '"model" = "Apple M1"\n"gpu-core-count" = 8\n'
MAC_LINES = st.tuples(
    st.sampled_from([*MAC, *macos.CPU_NAMES, *apple.NAMES]),
    st.one_of(NUMBERS, NUMBERS.map("{}.".format), st.sampled_from([*MAC.values(), ""]), st.text(max_size=20)),
).map(": ".join)
GPU_LINES = st.tuples(st.sampled_from(['"gpu-core-count" = ', '"model" = "Apple ']), NUMBERS, st.just('"')).map("".join)
PRINTED = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.lists(st.one_of(MAC_LINES, GPU_LINES), max_size=6).map(
        lambda lines: "\n".join([*lines, *(f"{name}: {value}" for name, value in MAC.items()), IOREG])
    ),
)
PORTABLE = {
    "os": st.text(max_size=20),
    "arch": st.text(max_size=20),
    "cpu_name": st.text(max_size=20),
    "flags": st.lists(st.sampled_from(["avx2", "\x1b"]), max_size=3),
    **dict.fromkeys(("physical_cores", "logical_cores", "allowed_cpus"), st.integers(-1, 1 << 70)),
    **dict.fromkeys(("memory_total_bytes", "memory_available_bytes", "swap_bytes"), st.integers(-1, 1 << 70)),
}
ANSWERS = st.one_of(st.none(), st.integers(), st.lists(st.none()), st.fixed_dictionaries(PORTABLE))


@dataclass(frozen=True)
class Talking(Recorded):
    """A machine without files, all of whose programs print one text."""

    printed: str | None = None

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Ran | None:
        return None if self.printed is None else Ran(0, self.printed, "")


@examples(200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["darwin", "darwin", "win32"]), PRINTED, ANSWERS)
def test_no_probe_raises_whatever_programs_print(system: str, printed: str | None, answer: object) -> None:
    told = Recording(system, {}, asked=(RecordedReply("llmctl.probe.portable", answer),))
    host = Talking(root=Path("/nowhere"), environ={}, system=system, recording=told, printed=printed)
    machine = probe(host, store=Path("/models"))
    memory, cpu = machine.memory, machine.cpu
    assert 0 <= memory.available_bytes <= memory.total_bytes
    assert memory.swap_bytes >= 0
    assert 1 <= cpu.usable_threads <= cpu.physical_cores <= cpu.logical_cores
    assert cpu.performance_cores is None or 1 <= cpu.performance_cores < cpu.physical_cores
    assert all(cache.size_bytes > 0 and 1 <= cache.count <= cpu.physical_cores for cache in cpu.caches)
    for card in machine.accelerators:
        assert card.name
        if card.memory_total_bytes is not None:
            assert 0 <= (card.memory_free_bytes or 0) <= card.memory_total_bytes <= memory.total_bytes
    assert all(text.isprintable() for text in (cpu.name, cpu.arch, machine.os, *(c.name for c in machine.accelerators)))


GPU_LINES = st.one_of(
    st.sampled_from(
        [
            "PCI_SLOT_NAME=0000:03:00.0",
            "PCI_SLOT_NAME=0000:00:02.0",
            "PCI_ID=1002:747E",
            "\t747e  [[[[[]",
            "747E,\tC8,",
            "8086  Intel Corporation",
            "\t".join(["ffffffff", "80864692", "7f", *["0"] * 7, "f" * 16, *["0"] * 6, "vfio-pci"]),
        ]
    ),
    st.tuples(
        st.sampled_from(["simd_count ", "location_id ", "domain ", "gfx_target_version ", "unique_id "]),
        st.one_of(st.integers(0, 1 << 66).map(str), NUMBERS),
    ).map("".join),
    st.integers(0, 1 << 66).map(str),
    NUMBERS,
    st.text(max_size=20),
)
GPU_CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.lists(GPU_LINES, max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
)
GPU_CARDS = ("card0", "card1", "card007")
GPU_NODE = "simd_count 96\ngfx_target_version 110001\nunique_id 5\ndrm_render_minor 128\nlocation_id "
GPU_FILES = {
    "proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable: 1000000 kB\n",
    "proc/bus/pci/devices": "\t".join(["0300", "1002747e", "7f", *["0"] * 7, "10000000", *["0"] * 6, ""]) + "\n",
    "dev/kfd": "",
    "dev/dri/renderD128": "",
    "sys/module/amdgpu/version": "6.10.5\n",
    "sys/class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 16\nsimd_count 0\n",
    "sys/class/kfd/kfd/topology/nodes/1/properties": f"{GPU_NODE}768\n",
    "sys/class/kfd/kfd/topology/nodes/2/properties": f"{GPU_NODE}16\n",
    "sys/class/kfd/kfd/topology/nodes/x/properties": f"{GPU_NODE}768\n",
    "usr/share/hwdata/pci.ids": "1002  AMD\n\t747e  Navi 32 [Radeon RX 7800 XT]\n8086  Intel\n\t747e  Arc\n",
    "usr/share/libdrm/amdgpu.ids": "747E,\tC8,\tAMD Radeon RX 7800 XT\n",
} | {
    f"sys/class/drm/{card}/{name}": text
    for card, place in zip(GPU_CARDS, ("03:00.0", "00:02.0", "10:00.0"), strict=True)
    for name, text in {
        "lmem_total_bytes": "17179869184\n",
        "lmem_avail_bytes": "17179869185\n",
        "device/uevent": f"DRIVER=amdgpu\nPCI_ID=1002:747E\nPCI_SLOT_NAME=0000:{place}\n",
        "device/revision": "0xc8\n",
        "device/product_name": "AMD Radeon PRO W7900\n",
        "device/board_info": "type : cem\n",
        "device/uma/carveout": "7\n",
        "device/mem_info_vram_total": "4294967296\n",
        "device/mem_info_vram_used": "4294967297\n",
        "device/mem_info_vram_vendor": "unknown\n",
        "device/mem_info_gtt_total": "64000000000\n",
        "device/mem_info_gtt_used": "1\n",
        "device/max_link_speed": "16.0 GT/s PCIe\n",
        "device/max_link_width": "16\n",
        "device/power/runtime_status": "suspended\n",
        "device/hwmon/hwmon0/in1_label": "vddnb\n",
        "device/hwmon/hwmon0/power1_cap": "327000000\n",
        "device/hwmon/hwmon0/power1_max": "190000000\n",
        "device/drm/renderD128/dev": "226:128\n",
        "device/tile0/physical_vram_size_bytes": "12884901888\n",
        "device/tile1/physical_vram_size_bytes": "12884901888\n",
    }.items()
}
GPU_TREES = st.fixed_dictionaries(
    {f"sys/class/drm/{card}/device/vendor": st.sampled_from([b"0x1002\n", b"0x8086\n"]) for card in GPU_CARDS},
    optional={name: st.one_of(st.just(text.encode()), GPU_CONTENTS) for name, text in GPU_FILES.items()},
)
VISIBLE = st.one_of(st.sampled_from([None, "0", "1,0", "-1", "", "GPU-00000", "9" * 5000]), st.text(max_size=20))


@examples(100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    contents=GPU_TREES,
    environ=st.dictionaries(
        st.sampled_from(["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"]), VISIBLE
    ),
)
def test_gpus_are_sound_whatever_their_files_hold(
    tmp_path: Path, contents: dict[str, bytes], environ: dict[str, str | None]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        for name, data in contents.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        choice = {name: value for name, value in environ.items() if value is not None}
        host = Host(root=Path(folder), environ=choice, system="linux")
        main, _ = memory.memory(host)
        (ours, notes), (theirs, more) = amd.amd(host, main), intel.intel(host, main)
    for card in ours + theirs:
        texts = (card.id, card.name, card.vendor, card.driver, card.architecture, card.uuid, card.pcie, card.pci_id)
        assert all(text and text.isprintable() and len(text) <= 250 for text in texts if text is not None)
        total, free, shared = card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes
        assert total is None or 0 <= total < 1 << 52
        assert free is None or (total is not None and 0 <= free <= total)
        assert shared is None or (total is not None and 0 <= shared <= min(total, main.total_bytes))
        assert shared is None or card.kind is AcceleratorKind.INTEGRATED
        assert card.power_limit_w is None or 0 < card.power_limit_w <= 5000
    assert len({card.id for card in ours}) == len(ours)
    for note in notes + more:
        assert all(text.isprintable() and len(text) < 1000 for text in (note.message, note.remedy or ""))


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpu_lists_round_trip(cpus: set[int]) -> None:
    assert cpu_list(",".join(map(str, sorted(cpus)))) == cpus


def test_cpu_list_of_ranges() -> None:
    assert cpu_list("0-2,8,10-11\n") == {0, 1, 2, 8, 10, 11}
    assert cpu_list("0-") == cpu_list("-3") == cpu_list("0,") == frozenset()
    assert cpu_list("0-99999999") == cpu_list("3-1") == cpu_list("") == cpu_list(None) == frozenset()
