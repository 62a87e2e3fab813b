"""The processor: its cores, the threads that may be used, and the instruction sets that change llama.cpp's speed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from llmctl.host import Host
from llmctl.probe import cgroup
from llmctl.probe.portable import portable
from llmctl.probe.text import cpu_list, pairs, whole
from llmctl.types.machine import Cache, Cpu

DEEPEST_CACHE = 10

# The kernel's names (arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c) and, on the right, those that
# llama.cpp prints (ggml_backend_cpu_get_features in ggml/src/ggml-cpu/ggml-cpu.cpp), in its order.
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
    "asimd": "NEON",
    "asimdhp": "FP16_VA",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
    "asimddp": "DOTPROD",
    "sme": "SME",
}

# MIDR_EL1 implementer and part, as in the kernel's arch/arm64/include/asm/cputype.h. ARM chips carry no name.
ARM_CORES: Mapping[tuple[str, str], str] = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0xc0", "0xac3"): "Ampere-1",
}


def cpu(host: Host) -> tuple[Cpu, tuple[str, ...]]:
    """The processor and notes on what could not be learnt.

    ``usable_threads`` = min(cores among the CPUs that we may run on, ceil of the container's CPU quota): decoding
    waits for memory, so a second thread on a core gains nothing and costs a barrier.
    """
    text = host.read("/proc/cpuinfo")
    processors = _processors(text or "")
    if not processors:
        if host.system == "linux":
            return Cpu("unknown", _arch(host, {}), 1, 1, 1), ("/proc/cpuinfo does not name a processor",)
        return _portable(host)
    numbers = cpu_list(host.read("/sys/devices/system/cpu/online")) or frozenset(processors)
    allowed = cpu_list(pairs(host.read("/proc/self/status"), ":").get("Cpus_allowed_list")) & numbers or numbers
    cores = {number: _core(host, number, processors.get(number, {})) for number in numbers}
    first = next(iter(processors.values()))
    shared = dict(pairs(text, ":"), **first)  # a board's lines stand after the last processor's
    usable = len({cores[number] for number in allowed})
    quota = cgroup.cpu_quota(host)
    if quota is not None:
        usable = min(usable, max(1, math.ceil(quota)))
    return Cpu(
        name=_name(shared),
        arch=_arch(host, shared),
        physical_cores=len(set(cores.values())),
        logical_cores=len(numbers),
        usable_threads=usable,
        features=_features(shared.get("flags") or shared.get("Features") or ""),
        caches=_caches(host),
    ), ()


def name(host: Host) -> str:
    """The processor's name alone, for keys of what was measured on it."""
    return _name(pairs(host.read("/proc/cpuinfo"), ":"))


def _caches(host: Host) -> tuple[Cache, ...]:
    """Data and unified caches as the kernel lists them for each CPU, those that CPUs share counted once."""
    found: set[tuple[int, int, str]] = set()
    for folder in host.glob("/sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*"):
        level = host.read_int(f"{folder}/level")
        kib = whole((host.read(f"{folder}/size") or "").strip().removesuffix("K"))
        kind = (host.read(f"{folder}/type") or "").strip()
        if level is not None and 0 < level < DEEPEST_CACHE and kib and kind != "Instruction":
            found.add((level, kib * 1024, host.read(f"{folder}/shared_cpu_list") or ""))
    kinds = Counter((level, size) for level, size, _ in found)
    return tuple(Cache(level, size, count) for (level, size), count in sorted(kinds.items()))


def _portable(host: Host) -> tuple[Cpu, tuple[str, ...]]:
    """The processor where there is no /proc."""
    told, why = portable(host)
    if told is None:
        return Cpu("unknown", "unknown", 1, 1, 1), (f"the processor can't be learnt: {why}",)
    cores = max(1, told.physical_cores)
    return Cpu(
        name=told.cpu_name,
        arch=told.arch,
        physical_cores=cores,
        logical_cores=max(cores, told.logical_cores),
        usable_threads=max(1, min(cores, told.allowed_cpus)),
        features=_features(" ".join(told.flags)),
    ), ()


def _processors(text: str) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for block in text.split("\n\n"):
        fields = pairs(block, ":")
        number = whole(fields.get("processor"))
        if number is not None:
            found[number] = fields
    return found


def _core(host: Host, number: int, fields: Mapping[str, str]) -> object:
    """What tells one core from another: package and core number, or the set of threads that share it."""
    if "physical id" in fields and "core id" in fields:
        return fields["physical id"], fields["core id"]
    topology = f"/sys/devices/system/cpu/cpu{number}/topology"
    siblings = cpu_list(host.read(f"{topology}/core_cpus_list") or host.read(f"{topology}/thread_siblings_list"))
    return siblings or number


def _name(fields: Mapping[str, str]) -> str:
    part = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
    given = fields.get("model name") or ARM_CORES.get(part) or fields.get("Hardware") or fields.get("cpu")
    if given:
        return " ".join(given.split())
    return f"ARM core {part[0]}/{part[1]}" if all(part) else "unknown"


def _features(flags: str) -> tuple[str, ...]:
    present = set(flags.split())
    return tuple(ours for kernels, ours in FEATURES.items() if kernels in present)


def _arch(host: Host, fields: Mapping[str, str]) -> str:
    """The machine's own word for itself where it has one (Linux 6.1), else by the signs in /proc/cpuinfo."""
    told = (host.read("/proc/sys/kernel/arch") or "").strip()
    if told:
        return told
    if "lm" in fields.get("flags", "").split():
        return "x86_64"
    return "aarch64" if "asimd" in fields.get("Features", "").split() else "unknown"
