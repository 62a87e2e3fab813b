"""The GPU of Apple silicon, which shares the machine's memory and may use a part of it."""

from __future__ import annotations

import re

from llmctl.host import Host
from llmctl.probe.macos import DEADLINE_S, sysctl
from llmctl.probe.text import line, whole
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note

# The accelerator alone, without the processes that use it; system_profiler takes a second and more for the same
IOREG = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "AGXAccelerator")
NAMES = (
    "machdep.cpu.brand_string",
    "hw.optional.arm64",
    "kern.hv_vmm_present",
    "kern.osproductversion",
    "iogpu.wired_limit_mb",
    "debug.iogpu.wired_limit",
)
MOST_GPU_CORES = 1000
GIB = 1 << 30
PAGE_BYTES = 16384
LARGEST_RESERVE_BYTES = 48 * GIB
# The first number of macOS's version from which on something holds; 16 is what old programs are told of macOS 26
# (kern.osproductversioncompat in XNU's kern_sysctl.c)
METAL_3, METAL_4, NEW_SHARES = 13, 16, 16
# The GPU's percentage of memory, by the least memory that it holds for
SHARES = ((256 * GIB, 87), (128 * GIB, 84), (64 * GIB, 81), (32 * GIB, 78), (16 * GIB, 74))


def apple(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[Note, ...]]:
    """The GPU of the chip and notes on what could not be learnt.

    Its name has the number of its cores where that is known, "Apple M3 Max (40-core GPU)": one chip has different
    bandwidths. Nothing in a virtual machine, where Metal's device is another and only the engine knows its memory.
    """
    if host.system != "darwin":
        return (), ()
    values = sysctl(host, *NAMES)
    if values.get("hw.optional.arm64") != "1" or values.get("kern.hv_vmm_present") == "1":
        return (), ()
    model, cores = _accelerator(host)
    chip = model or line(values.get("machdep.cpu.brand_string")) or "Apple GPU"
    version = whole(values.get("kern.osproductversion", "").partition(".")[0])
    budget = None
    if memory.total_bytes:
        budget = working_set_bytes(memory.total_bytes, wired_limit_mb(values), version)
    card = Accelerator(
        id="metal0",
        name=f"{chip} ({cores}-core GPU)" if cores else chip,
        vendor="Apple",
        kind=AcceleratorKind.UNIFIED,
        memory_total_bytes=budget,
        memory_free_bytes=None if budget is None else min(budget, memory.available_bytes),
        shared_bytes=budget,
        api_version=_metal(version),
    )
    notes = () if cores else (Note(f"{chip}: ioreg does not tell how many GPU cores it has"),)
    return (card,), notes


def working_set_bytes(memory_bytes: int, wired_limit_mb: int | None, macos: int | None = None) -> int:
    """Bytes that Metal lets one process keep on the GPU (MTLDevice.recommendedMaxWorkingSetSize), which is the total
    that llama.cpp's Metal backend reports.

    It is ``wired_limit_mb`` MiB where the user has set the sysctl iogpu.wired_limit_mb; 0 stands for macOS's own
    choice, which Apple doesn't document. These shares are read off what llama.cpp and MLX print on Macs of every size
    (WORKING_SETS in tests/probe/test_apple.py, right to a page): up to macOS 15 two thirds up to 32 GiB and three
    quarters above; from macOS 26 on two thirds below 16 GiB, then SHARES; and at least all but 48 GiB. For 192 GiB with
    macOS 26 nobody has printed it. ``macos`` is the first number of its version; None counts as an old one, which gets
    less.
    """
    if wired_limit_mb:
        return min(wired_limit_mb << 20, memory_bytes)
    part, of = (2, 3) if memory_bytes <= 32 * GIB else (3, 4)
    if macos is not None and macos >= NEW_SHARES:
        part, of = next(((share, 100) for least, share in SHARES if memory_bytes >= least), (2, 3))
    pages = -(-memory_bytes * part // (of * PAGE_BYTES))
    return max(min(pages * PAGE_BYTES, memory_bytes), memory_bytes - LARGEST_RESERVE_BYTES)


def wired_limit_mb(values: dict[str, str]) -> int | None:
    """The limit that the user has set, in MiB; None if there is none. macOS 13 has it in bytes, under another name."""
    limit = whole(values.get("iogpu.wired_limit_mb")) or (whole(values.get("debug.iogpu.wired_limit")) or 0) >> 20
    return limit or None


def _accelerator(host: Host) -> tuple[str, int | None]:
    """Of the lines ``"model" = "Apple M3 Max"``, Metal's name for it, and ``"gpu-core-count" = 40`` in the I/O
    registry."""
    ran = host.run(IOREG, timeout_s=DEADLINE_S)
    text = ran.out if ran else ""
    model = re.search(r'"model" = "(Apple [^"]+)"', text)
    count = re.search(r'"gpu-core-count" = (\d{1,4})\b', text, re.ASCII)
    cores = int(count[1]) if count else 0
    return line(model[1]) if model else "", cores if 0 < cores <= MOST_GPU_CORES else None


def _metal(macos: int | None) -> str | None:
    """Metal 3 came with macOS 13 and Metal 4 with macOS 26, both for every Mac with Apple silicon."""
    if macos is None or macos < METAL_3:
        return None
    return "Metal 4" if macos >= METAL_4 else "Metal 3"
