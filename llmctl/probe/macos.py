"""Processor, memory and system of a Mac, from sysctl(8) and vm_stat(1).

The names are those of XNU: bsd/kern/kern_mib.c (hw), bsd/kern/kern_sysctl.c (kern, vm), osfmk/i386/cpuid.c (Intel's
instruction sets). Every part asks for what it needs, in one call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.text import MOST_CPUS, line, pairs, whole
from llmctl.types.machine import Cache, Cpu, Memory, Note

SYSCTL = "/usr/sbin/sysctl"
VM_STAT = "/usr/bin/vm_stat"
DEADLINE_S = 2.0
LARGEST = 1 << 62  # more bytes than a computer has
LEVELS = 4  # kinds of cores; there are three from M6 on
SLOW_LEVEL = "Efficiency"

# What the chip can, as llama.cpp spells it and in its order; on the right the names that say so, newest first.
ARM_FEATURES: Mapping[str, tuple[str, ...]] = {
    "NEON": ("hw.optional.arm64",),  # a part of every 64-bit ARM chip of Apple's
    "FP16_VA": ("hw.optional.arm.FEAT_FP16", "hw.optional.neon_fp16"),
    "MATMUL_INT8": ("hw.optional.arm.FEAT_I8MM",),
    "DOTPROD": ("hw.optional.arm.FEAT_DotProd",),
    "SME": ("hw.optional.arm.FEAT_SME",),
}
# The same for Intel: words in machdep.cpu.features and machdep.cpu.leaf7_features.
INTEL_FEATURES: Mapping[str, str] = {
    "SSE3": "SSE3",
    "SSSE3": "SSSE3",
    "AVX": "AVX1.0",
    "AVX2": "AVX2",
    "F16C": "F16C",
    "FMA": "FMA",
    "BMI2": "BMI2",
    "AVX512": "AVX512F",
    "AVX512_VBMI": "AVX512VBMI",
    "AVX512_VNNI": "AVX512VNNI",
}
INTEL_WORDS = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
LEVEL_FACTS = ("physicalcpu", "name", "l1dcachesize", "l2cachesize", "cpusperl2")
CPU_NAMES = (
    "machdep.cpu.brand_string",
    "hw.machine",
    "hw.physicalcpu",
    "hw.logicalcpu",
    "sysctl.proc_translated",
    *(name for names in ARM_FEATURES.values() for name in names),
    *INTEL_WORDS,
    "hw.cachesize",
    "hw.cacheconfig",
    *(f"hw.perflevel{level}.{fact}" for level in range(LEVELS) for fact in LEVEL_FACTS),
)
ROSETTA = Note(
    "Python is an Intel build that Rosetta translates, which makes the engine several times slower",
    # the Homebrew for Apple silicon; the one for Intel lives in /usr/local
    "/opt/homebrew/bin/brew install python   (or from https://www.python.org/downloads; then install llmctl with it)",
)
# What hw.model begins with in a virtual machine, in lower case.
HYPERVISORS: Mapping[str, str] = {"virtualmac": "apple", "vmware": "vmware", "parallels": "parallels"}


class CoreKind(Struct, frozen=True):
    """Cores of one kind. ``l2_cores`` share one cache of the second level; 0 bytes where a size isn't known."""

    name: str
    cores: int
    l1_bytes: int
    l2_bytes: int
    l2_cores: int


def sysctl(host: Host, *names: str) -> dict[str, str]:
    """The values of ``names``, as printed; what this macOS or chip doesn't know is left out.

    Without ``-i`` sysctl ends at the first unknown name up to macOS 14.3 (system_cmds-970) and exits with their
    number from 14.4 on.
    """
    ran = host.run([SYSCTL, "-i", *names], timeout_s=DEADLINE_S)
    values = pairs(ran.out, ":") if ran else {}
    return {name: values[name] for name in names if name in values}


def cpu(host: Host) -> tuple[Cpu, tuple[Note, ...]] | None:
    """The processor and notes; None if sysctl doesn't tell how many cores there are."""
    values = sysctl(host, *CPU_NAMES)
    physical = _count(values, "hw.physicalcpu")
    if not 0 < physical < MOST_CPUS:
        return None
    apple = values.get("hw.optional.arm64") == "1"
    levels = _levels(values, physical)
    features = _arm_features(values) if apple else _intel_features(values)
    return Cpu(
        name=line(values.get("machdep.cpu.brand_string")) or "unknown",
        arch="arm64" if apple else line(values.get("hw.machine")) or "unknown",  # the chip's, under Rosetta too
        physical_cores=physical,
        logical_cores=min(max(physical, _count(values, "hw.logicalcpu")), MOST_CPUS),
        usable_threads=physical,  # macOS has neither affinity nor quotas
        features=features,
        performance_cores=_fast(levels, physical),
        usable_threads_reason=f"all {physical} physical cores" if physical > 1 else "the only physical core",
        caches=_level_caches(levels) if apple else _intel_caches(values, physical),
    ), ((ROSETTA,) if values.get("sysctl.proc_translated") == "1" else ())


def memory(host: Host) -> Memory | None:
    """Memory in bytes; None if sysctl and vm_stat don't tell.

    Available is what is free or inactive, as psutil has it (psutil/arch/osx/mem.c) and ollama: file pages among the
    inactive are dropped, others compressed.
    """
    values = sysctl(host, "hw.memsize", "vm.swapusage")
    total = _count(values, "hw.memsize")
    ran = host.run([VM_STAT], timeout_s=DEADLINE_S)
    available = available_bytes(ran.out) if ran else None
    if not total or available is None:
        return None
    return Memory(total, min(available, total), swap_bytes=swap_bytes(values.get("vm.swapusage")))


def available_bytes(vm_stat: str) -> int | None:
    """Of what vm_stat prints: (free + speculative + inactive) pages. Its "Pages free" leave the speculative out, which
    were read ahead and are free for all (vm_stat.c in Apple's system_cmds)."""
    size = re.search(r"page size of (\d{4,6}) bytes", vm_stat, re.ASCII)
    counts = {name: whole(count.removesuffix(".")) for name, count in pairs(vm_stat, ":").items()}
    free, inactive = counts.get("Pages free"), counts.get("Pages inactive")
    if size is None or free is None or inactive is None:
        return None
    return (free + inactive + (counts.get("Pages speculative") or 0)) * int(size[1])


def swap_bytes(swapusage: str | None) -> int:
    """Of "total = 2048.00M  used = 605.88M  free = 1442.12M  (encrypted)" the total, in bytes. macOS makes swap files
    as it needs them, so there may be none yet."""
    total = re.match(r"total = (\d{1,12})[.,]\d\dM", swapusage or "", re.ASCII)  # a comma in some languages
    return int(total[1]) << 20 if total else 0


def os_name(host: Host) -> str | None:
    """For people: "macOS 15.1"; None if sysctl doesn't tell."""
    version = sysctl(host, "kern.osproductversion").get("kern.osproductversion", "")
    return f"macOS {version}" if re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,2}", version, re.ASCII) else None


def virtual_machine(host: Host) -> str | None:
    """The hypervisor below, "unknown" if nothing names it; None on a Mac of its own."""
    values = sysctl(host, "kern.hv_vmm_present", "hw.model")
    if values.get("kern.hv_vmm_present") != "1":
        return None
    model = values.get("hw.model", "").lower()
    return next((name for start, name in HYPERVISORS.items() if model.startswith(start)), "unknown")


def _count(values: Mapping[str, str], name: str) -> int:
    return _number(values.get(name))


def _number(text: str | None) -> int:
    number = whole(text) or 0
    return number if number <= LARGEST else 0


def _levels(values: Mapping[str, str], physical: int) -> list[CoreKind]:
    """The kinds of cores, fastest first. Empty on macOS 11, and where they don't add up."""
    levels = []
    for number in range(LEVELS):
        name = f"hw.perflevel{number}"
        cores = _count(values, f"{name}.physicalcpu")
        if cores:
            sizes = (_count(values, f"{name}.{fact}") for fact in ("l1dcachesize", "l2cachesize", "cpusperl2"))
            levels.append(CoreKind(line(values.get(f"{name}.name")), cores, *sizes))
    return levels if sum(level.cores for level in levels) == physical else []


def _fast(levels: list[CoreKind], physical: int) -> int | None:
    """How many cores are not of the slow kind; None where all are alike. macOS 12 doesn't name the kinds: the first is
    the fastest."""
    fast = [level for level in levels if level.name != SLOW_LEVEL] if levels and levels[0].name else levels[:1]
    cores = sum(level.cores for level in fast)
    return cores if 0 < cores < physical else None


def _level_caches(levels: list[CoreKind]) -> tuple[Cache, ...]:
    first = [Cache(1, level.l1_bytes, level.cores) for level in levels if level.l1_bytes]
    shared = [level for level in levels if level.l2_bytes and level.l2_cores]
    return (*first, *(Cache(2, level.l2_bytes, -(-level.cores // level.l2_cores)) for level in shared))


def _intel_caches(values: Mapping[str, str], physical: int) -> tuple[Cache, ...]:
    """hw.cachesize has the bytes of memory, L1, L2 and L3, hw.cacheconfig how many logical CPUs share each."""
    sizes = [_number(word) for word in values.get("hw.cachesize", "").split()]
    logical, *sharing = [_number(word) for word in values.get("hw.cacheconfig", "").split()] or [0]
    return tuple(
        Cache(level, size, min(max(1, logical // shared), physical))
        for level, (size, shared) in enumerate(zip(sizes[1:4], sharing[:3], strict=False), 1)
        if size and shared
    )


def _arm_features(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(ours for ours, names in ARM_FEATURES.items() if any(values.get(name) == "1" for name in names))


def _intel_features(values: Mapping[str, str]) -> tuple[str, ...]:
    words = {word for name in INTEL_WORDS for word in values.get(name, "").split()}
    return tuple(ours for ours, theirs in INTEL_FEATURES.items() if theirs in words)
