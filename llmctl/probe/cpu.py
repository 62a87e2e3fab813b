"""The processor: its cores, the threads that may be used, and the instruction sets that change llama.cpp's speed."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from llmctl.host import Host
from llmctl.probe import cgroup, macos
from llmctl.probe.described.document import CORRECT
from llmctl.probe.portable import portable
from llmctl.probe.text import MOST_CPUS, cpu_list, cpuinfo, line, pairs, whole
from llmctl.types.machine import Cache, Cpu, Note

CPUS = "/sys/devices/system/cpu"
DEEPEST_CACHE = 10
LARGEST_CACHE_BYTES = 4 << 30  # the largest are of some hundred MiB; more is a virtual machine's invention
MOST_THREADS = 8  # of one core: POWER's
NAMELESS = Note("/proc/cpuinfo does not name a processor")
PERFORMANCE_SHARE = 0.75  # of the fastest core's capacity; cores of one kind differ by a few percent (turbo bins)

# The kernel's names (arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c, arch/s390/kernel/processor.c)
# and, on the right, those that llama.cpp prints (ggml_backend_cpu_get_features in ggml/src/ggml-cpu/ggml-cpu.cpp), in
# its order. It prints nothing of AVX_VNNI_INT8, AVX512_FP16 or ARM's bf16, and what it doesn't name can't be compared.
FEATURES: Mapping[str, str] = {
    "pni": "SSE3",
    "ssse3": "SSSE3",
    "avx": "AVX",
    "avx_vnni": "AVX_VNNI",
    "avx2": "AVX2",
    "f16c": "F16C",
    "fma": "FMA",
    "bmi2": "BMI2",
    "avx512f": "AVX512",
    "avx512vbmi": "AVX512_VBMI",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
    "neon": "NEON",  # 32-bit ARM's word
    "asimd": "NEON",
    "asimdhp": "FP16_VA",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
    "asimddp": "DOTPROD",
    "sme": "SME",
    "sme2": "SME2",
    "v": "RISCV_V",
    "vsx": "VSX",
    "vxe": "VXE",
}

# MIDR_EL1 implementer and part, as in the kernel's arch/arm64/include/asm/cputype.h. ARM chips carry no name.
ARM_CORES: Mapping[tuple[str, str], str] = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4c"): "Cortex-X1C",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
    ("0x41", "0xd84"): "Neoverse V3",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0x41", "0xd8e"): "Neoverse N3",
    ("0x48", "0xd01"): "Kunpeng 920",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1a",
}

CoreCpus = frozenset[int]  # the numbers of the CPUs, as the kernel counts threads, that share one core


def cpu(host: Host) -> tuple[Cpu, tuple[Note, ...]]:
    """The processor and notes on what could not be learnt. CPUs that are switched off don't count.

    ``usable_threads`` = min(cores among the CPUs that we may run on, ceil of the container's CPU quota): decoding
    waits for memory, so a second thread on a core gains nothing and costs a barrier.
    """
    text = host.read("/proc/cpuinfo") or ""
    numbers = cpu_list(host.read(f"{CPUS}/online")) or frozenset(_processors(text))
    if not numbers:
        if host.system == "linux":
            why = "the number of cores is not known"
            return Cpu("unknown", _arch(host, {}), 1, 1, 1, usable_threads_reason=why), (NAMELESS,)
        return _portable(host)
    first_cpu = cpuinfo(text)
    cores, unknown = _cores(host, numbers, text)
    allowed = cpu_list(pairs(host.read("/proc/self/status"), ":").get("Cpus_allowed_list"))
    quota = cgroup.cpu_quota(host)
    usable, reason = _usable(len(cores), _permitted(cores, allowed, numbers), quota)
    cpu_name = _name(host, text)
    notes = [] if cpu_name != "unknown" else [NAMELESS]
    if unknown and "siblings" in first_cpu and _threads(first_cpu) > 1:
        message = f"which CPUs share a core is not told of {unknown} of {len(numbers)} CPUs: each counts as a core"
        notes.append(Note(message, "export LLMCTL_THREADS=NUMBER   of cores, if you know it"))
    return Cpu(
        name=cpu_name,
        arch=_arch(host, first_cpu),
        physical_cores=len(cores),
        logical_cores=len(numbers),
        usable_threads=usable,
        features=_features(_flags(first_cpu)),
        performance_cores=_performance_cores(host, cores),
        usable_threads_reason=reason,
        caches=_caches(host, cores),
        quota=quota if quota is not None and quota < len(numbers) else None,
    ), tuple(notes)


def name(host: Host) -> str:
    """The processor's name alone, for keys of what was measured on it."""
    return _name(host, host.read("/proc/cpuinfo") or "")


def _name(host: Host, text: str) -> str:
    """What the processor calls itself: ARM's cores have numbers for names, older boards the chip's name."""
    fields = cpuinfo(text)
    kinds = _kinds(host, text) if "CPU part" in fields else []
    arm_names = " + ".join(kind for kind in kinds if kind in ARM_CORES.values())
    keys = ("model name", "Model Name", "Hardware", "cpu", "uarch")  # Model Name: LoongArch; cpu: POWER; uarch: RISC-V
    names = [fields.get(key) for key in keys]
    if fields.get("vendor_id") == "IBM/S390":
        names.append("IBM Z")
    return line(next(filter(None, [names[0], arm_names, *names[1:], " + ".join(kinds)]), None)) or "unknown"


def _permitted(cores: Sequence[CoreCpus], allowed: frozenset[int], numbers: frozenset[int]) -> int:
    """How many of the cores, which have the CPUs ``numbers``, the affinity allows.

    In a container lxcfs counts CPUs from 0, and the affinity keeps the host's numbers: where it has some that aren't
    there, and lacks some that are, the same number doesn't mean the same CPU, and only how many there are says
    something. An affinity with all of ``numbers`` and more is what the kernel begins with: CPUs that could be plugged
    in are in it.
    """
    if not allowed or allowed >= numbers:
        return len(cores)
    if allowed <= numbers:
        return sum(not core.isdisjoint(allowed) for core in cores)
    return min(len(cores), len(allowed))


def _usable(physical: int, permitted: int, quota: float | None) -> tuple[int, str]:
    """How many threads compute, and what set that number."""
    usable = permitted if quota is None else min(permitted, max(1, math.ceil(quota)))
    if usable == physical:
        return usable, f"all {physical} physical cores" if physical > 1 else "the only physical core"
    if quota is not None and quota < permitted:
        amount = f"{max(quota, 0.01):.2f}".rstrip("0").rstrip(".")
        return usable, f"CPU quota of {amount} {'CPU' if amount == '1' else 'CPUs'}"
    return usable, f"affinity allows {permitted} of {physical} cores"


def _cores(host: Host, numbers: frozenset[int], text: str) -> tuple[tuple[CoreCpus, ...], int]:
    """The cores, each with its CPUs, in the order of their first ones; and the number of CPUs whose core isn't known.

    By sysfs, where the kernel says which threads share a core; else by ``text``, /proc/cpuinfo's numbers of package
    and core (gVisor has no sysfs), but not where more CPUs share them than a core has threads: with Xen they all do.
    """
    cores: list[CoreCpus] = []
    placed: set[int] = set()
    alike: Mapping[int, CoreCpus] | None = None
    unknown = 0
    for number in sorted(numbers):
        if number in placed:
            continue
        topology = f"{CPUS}/cpu{number}/topology"
        core = cpu_list(host.read(f"{topology}/core_cpus_list") or host.read(f"{topology}/thread_siblings_list"))
        if number not in core:
            alike = _sharing(text) if alike is None else alike
            core = alike.get(number, CoreCpus())
            unknown += not core
        cores.append((core & numbers) - placed | {number})
        placed |= cores[-1]
    return tuple(cores), unknown


def _sharing(text: str) -> dict[int, CoreCpus]:
    """For each CPU of /proc/cpuinfo those of its core, itself among them."""
    places: dict[tuple[str, str], dict[int, dict[str, str]]] = {}
    for number, fields in _processors(text).items():
        if "physical id" in fields and "core id" in fields:
            places.setdefault((fields["physical id"], fields["core id"]), {})[number] = fields
    return {
        number: CoreCpus(together)
        for together in places.values()
        for number, fields in together.items()
        if len(together) <= _threads(fields)
    }


def _threads(fields: Mapping[str, str]) -> int:
    """Of one core at most, as /proc/cpuinfo has it: where kinds of cores differ, it is the average rounded up."""
    siblings, cores = whole(fields.get("siblings")), whole(fields.get("cpu cores"))
    return -(-siblings // cores) if siblings and cores else MOST_THREADS


def _performance_cores(host: Host, cores: Sequence[CoreCpus]) -> int | None:
    """How many of the cores are the fast ones, None where all are alike.

    Intel's hybrid chips have a performance counter unit for each kind (arch/x86/events/intel/core.c); elsewhere the
    scheduler's figures tell (Documentation/ABI/testing/sysfs-devices-system-cpu, cpu_capacity; 1024 is the fastest).
    AMD's compact cores differ in clock only, by not much more than good and poor cores of one kind do: not told.
    """
    strong = cpu_list(host.read("/sys/devices/cpu_core/cpus"))
    fast = sum(not core.isdisjoint(strong) for core in cores)
    if not strong:
        capacities: list[int] = []
        for core in cores:
            capacity = whole(host.read(f"{CPUS}/cpu{min(core)}/cpu_capacity"))
            if not capacity:
                return None
            capacities.append(capacity)
        fast = sum(capacity >= PERFORMANCE_SHARE * max(capacities) for capacity in capacities)
    return fast if 0 < fast < len(cores) else None


def _caches(host: Host, cores: Sequence[CoreCpus]) -> tuple[Cache, ...]:
    """Data and unified caches as the kernel lists them for each CPU, those that CPUs share counted once.

    Large servers have thousands of these files. So only the first CPU of each core is asked; of a cache that was seen
    no more than who shares it; and what an index is (level 1, instructions) is asked once for each size it has.
    """
    kinds: dict[tuple[int, str | None], int | None] = {}
    seen: set[tuple[int, str]] = set()
    counts: Counter[tuple[int, int]] = Counter()
    for core in cores:
        for index in range(DEEPEST_CACHE):
            folder = f"{CPUS}/cpu{min(core)}/cache/index{index}"
            sharing = host.read(f"{folder}/shared_cpu_list")
            if sharing is None:
                break
            if (index, sharing) in seen:
                continue
            seen.add((index, sharing))
            size = host.read(f"{folder}/size")
            if (index, size) not in kinds:
                kinds[index, size] = _level(host, folder)
            level, size_bytes = kinds[index, size], (whole((size or "").strip().removesuffix("K")) or 0) * 1024
            if level and 0 < size_bytes <= LARGEST_CACHE_BYTES:
                counts[level, size_bytes] += 1
    return tuple(Cache(level, size_bytes, count) for (level, size_bytes), count in sorted(counts.items()))


def _level(host: Host, folder: str) -> int | None:
    """A cache's level; None for one that holds instructions, or if it isn't told."""
    level = whole(host.read(f"{folder}/level"))
    instructions = (host.read(f"{folder}/type") or "").strip() == "Instruction"
    return None if instructions or level is None or level > DEEPEST_CACHE else level


def _portable(host: Host) -> tuple[Cpu, tuple[Note, ...]]:
    """The processor where there is no /proc."""
    if host.system == "darwin" and (mac := macos.cpu(host)):
        return mac
    facts, why = portable(host)
    if facts is None:
        return Cpu("unknown", "unknown", 1, 1, 1), (Note(f"the processor can't be learnt: {why}", CORRECT),)
    usable, reason = _usable(facts.physical_cores, min(facts.physical_cores, facts.allowed_cpus), None)
    return Cpu(
        name=facts.cpu_name,
        arch=facts.arch,
        physical_cores=facts.physical_cores,
        logical_cores=facts.logical_cores,
        usable_threads=usable,
        features=_features(" ".join(facts.flags)),
        usable_threads_reason=reason,
    ), ()


def _processors(text: str) -> dict[int, dict[str, str]]:
    by_number: dict[int, dict[str, str]] = {}
    for block in text.split("\n\n"):
        fields = pairs(block, ":")
        number = whole(fields.get("processor"))
        if number is not None and number < MOST_CPUS:
            by_number[number] = fields
    return by_number


def _kinds(host: Host, text: str) -> list[str]:
    """The names of ARM's kinds of cores, the fastest first."""
    capacity: dict[tuple[str, str], int] = {}
    for number, fields in _processors(text).items():
        kind = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
        if all(kind) and kind not in capacity:
            capacity[kind] = whole(host.read(f"{CPUS}/cpu{number}/cpu_capacity")) or 0
    fastest_first = sorted(capacity, key=lambda kind: -capacity[kind])
    return [ARM_CORES.get(kind) or f"ARM core {kind[0]}/{kind[1]}" for kind in fastest_first]


def _flags(fields: Mapping[str, str]) -> str:
    """The names of instruction sets, in the words of ``FEATURES``.

    RISC-V has them as letters ("rv64imafdcv_zicsr"); POWER names only its generation, and llama.cpp's VSX kernels are
    made for the ninth and later (__POWER9_VECTOR__).
    """
    if letters := re.match(r"rv\d+([a-z]+)", fields.get("isa", "")):
        return " ".join(letters[1])
    if generation := re.match(r"power(\d{1,3})\b", fields.get("cpu", ""), re.IGNORECASE):
        return "vsx" if int(generation[1]) >= 9 else ""
    return fields.get("flags") or fields.get("Features") or fields.get("features") or ""


def _features(flags: str) -> tuple[str, ...]:
    present = set(flags.split())
    return tuple(dict.fromkeys(ours for kernels, ours in FEATURES.items() if kernels in present))


def _arch(host: Host, fields: Mapping[str, str]) -> str:
    """The machine's own word for itself where it has one (Linux 6.1), else by the signs in /proc/cpuinfo."""
    architecture = line(host.read("/proc/sys/kernel/arch"))
    if re.fullmatch(r"[a-z0-9_]{1,20}", architecture):
        return architecture
    if "flags" in fields:
        return "x86_64" if "lm" in fields["flags"].split() else "i686"
    if "Features" in fields:
        return "aarch64" if "asimd" in fields["Features"].split() else "arm"
    if generation := re.match(r"rv(32|64)", fields.get("isa", "")):
        return f"riscv{generation[1]}"
    if fields.get("cpu", "").upper().startswith("POWER"):
        return "ppc64le"  # what llama.cpp is built for on POWER; the big-endian systems are gone
    return "s390x" if fields.get("vendor_id") == "IBM/S390" else "unknown"
