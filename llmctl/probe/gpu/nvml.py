"""NVIDIA's management library, asked through pynvml in a process of its own: ``python -m llmctl.probe.gpu.nvml``.

Drivers hang and crash. This module has the types of the child's report, and the child itself; ``probe.gpu.nvidia``
interprets it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from llmctl import child
from llmctl.probe.text import line

T = TypeVar("T")

# Return codes of nvml.h that mean something to us (nvmlReturn_t).
NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
VERSION_MISMATCH = 18

# What a driver says is bounded before it is believed; beyond these figures it means something else, or nothing.
MOST_CARDS = 64
MOST_FAILURES = 8
MOST_TEXT = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE; uuids take less
MOST_MEMORY_BYTES = 1 << 44
MOST_CLOCK_MHZ = 100_000
MOST_BUS_BITS = 1 << 16
MOST_POWER_MW = 100_000_000
MOST_LANES = 64
MOST_GENERATION = 16
MOST_CUDA = 1_000_000
MOST_CAPABILITY = 99
MOST_INSTANCE = 1 << 16
MOST_BUS = 0xFF
MOST_DEVICE = 0x1F


class Slice(Struct, frozen=True):
    """A MIG device: ``instance`` are the numbers of its GPU instance and its compute instance."""

    name: str | None
    uuid: str | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    instance: tuple[int, ...] = ()


class Card(Struct, frozen=True):
    """What NVML says of one device, nothing more.

    ``address`` is its place on the PCI bus as the kernel writes it. ``shared``: it has no memory of its own to report.
    ``memory_free_bytes`` is nvmlMemory_t's: neither allocated nor reserved by the driver, in version 1 of that call
    as in version 2, which drivers before 510 lack and WSL has answered with an error. ``pcie`` is generation and
    lanes, the best that device and slot can do together.
    """

    name: str | None
    uuid: str | None = None
    address: str | None = None
    pci_id: str | None = None
    shared: bool = False
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    compute_capability: str | None = None
    memory_clock_mhz: int | None = None
    bus_width_bits: int | None = None
    pcie: tuple[int, ...] = ()
    power_limit_mw: int | None = None
    mig: bool = False
    slices: tuple[Slice, ...] = ()


class NvmlReport(Struct, frozen=True):
    """One answer of NVML. ``error`` and ``code`` are its own where it could not start; ``failures`` are the cards
    that could not be opened, and why. ``cuda`` is the newest version that the driver takes; ``no_cuda``: there is no
    libcuda.so.1, which every CUDA program needs."""

    driver: str | None = None
    cuda: str | None = None
    no_cuda: bool = False
    cards: tuple[Card, ...] = ()
    failures: tuple[str, ...] = ()
    error: str | None = None
    code: int | None = None


def _text(value: object) -> str | None:
    return line(value)[:MOST_TEXT].rstrip() or None if isinstance(value, str) else None


def _whole(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and 0 < value <= most else None


def _report(places: Any) -> dict[str, Any]:
    """In the child: everything NVML knows. A function that an old driver lacks leaves its field None.

    ``places``: files to take the library from where the system's loader does not find it.
    """
    import pynvml as untyped

    pynvml: Any = untyped

    def ask_or_none(function: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return function(*arguments)
        except (pynvml.NVMLError, ValueError):  # ValueError: bytes that are no text
            return None

    try:
        _start(pynvml, places)
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return {"error": _words(error), "code": error.value}
    cards, failures = [], []
    for index in range(min(count, MOST_CARDS)):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            failures.append(f"card {index}: {_words(error)}")
            continue
        cards.append(_card(pynvml, ask_or_none, handle))
    report = {
        "driver": _text(ask_or_none(pynvml.nvmlSystemGetDriverVersion)),
        "cards": cards,
        "failures": failures[:MOST_FAILURES],
    }
    try:
        version = _whole(pynvml.nvmlSystemGetCudaDriverVersion_v2(), MOST_CUDA)
    except pynvml.NVMLError as error:
        return {**report, "no_cuda": error.value == LIBRARY_NOT_FOUND}
    return {**report, "cuda": f"{version // 1000}.{version % 1000 // 10}" if version else None}


def _words(error: Any) -> str:
    """NVML's own words for its error, which may come from the library."""
    try:
        words = _text(str(error).rstrip("."))
    except ValueError:
        words = None
    return words or f"error {error.value}"


def _start(pynvml: Any, places: Any) -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value != LIBRARY_NOT_FOUND or not _loaded(places):
            raise
        pynvml.nvmlInit()


def _loaded(places: Sequence[str]) -> bool:
    """Loads the first library that can be; from then on the loader knows it by the name that pynvml uses."""
    import ctypes

    for place in places or ():
        try:
            ctypes.CDLL(place)
        except OSError:
            continue
        return True
    return False


def _card(pynvml: Any, ask_or_none: Callable[..., Any], handle: Any) -> dict[str, Any]:
    memory, shared = _memory(pynvml, handle)
    pci = ask_or_none(pynvml.nvmlDeviceGetPciInfo, handle)
    link = (
        _whole(ask_or_none(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle), MOST_GENERATION),
        _whole(ask_or_none(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle), MOST_LANES),
    )
    mig = (ask_or_none(pynvml.nvmlDeviceGetMigMode, handle) or [0])[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    clock = ask_or_none(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM)
    return {
        "name": _text(ask_or_none(pynvml.nvmlDeviceGetName, handle)),
        "uuid": _text(ask_or_none(pynvml.nvmlDeviceGetUUID, handle)),
        "address": _address(pci),
        # the low half is the vendor's number, the high half the device's
        "pci_id": f"{pci.pciDeviceId & 0xFFFF:04x}:{pci.pciDeviceId >> 16:04x}" if _address(pci) else None,
        "shared": shared,
        **memory,
        "compute_capability": _capability(ask_or_none(pynvml.nvmlDeviceGetCudaComputeCapability, handle)),
        "memory_clock_mhz": _whole(clock, MOST_CLOCK_MHZ),
        "bus_width_bits": _whole(ask_or_none(pynvml.nvmlDeviceGetMemoryBusWidth, handle), MOST_BUS_BITS),
        "pcie": link if all(link) else (),
        "power_limit_mw": _whole(ask_or_none(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle), MOST_POWER_MW),
        "mig": mig,
        "slices": _slices(pynvml, ask_or_none, handle) if mig else (),
    }


def _memory(pynvml: Any, handle: Any) -> tuple[dict[str, int | None], bool]:
    """Total and free bytes, and whether they lie in the machine's own memory: on GB10, Orin and Thor NVML does not
    support the question. Any other error (a lost card, no permission) says nothing."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        return {"memory_total_bytes": None, "memory_free_bytes": None}, error.value == NOT_SUPPORTED
    total = _whole(memory.total, MOST_MEMORY_BYTES)
    free = memory.free if total is not None and memory.free <= total else None
    return {"memory_total_bytes": total, "memory_free_bytes": free}, False


def _slices(pynvml: Any, ask_or_none: Callable[..., Any], handle: Any) -> list[dict[str, Any]]:
    slices = []
    for index in range(min(ask_or_none(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0, MOST_CARDS)):
        device = ask_or_none(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if device is None:  # the count is what there may be at most
            continue
        numbers = (
            ask_or_none(pynvml.nvmlDeviceGetGpuInstanceId, device),
            ask_or_none(pynvml.nvmlDeviceGetComputeInstanceId, device),
        )
        instance = tuple(number for number in numbers if isinstance(number, int) and number <= MOST_INSTANCE)
        memory, _ = _memory(pynvml, device)
        slices.append(
            {
                "name": _text(ask_or_none(pynvml.nvmlDeviceGetName, device)),
                "uuid": _text(ask_or_none(pynvml.nvmlDeviceGetUUID, device)),
                **memory,
                "instance": instance if len(instance) == len(numbers) else (),
            }
        )
    return slices


def _address(pci: Any) -> str | None:
    """As the kernel and ggml write it, "0000:01:00.0"; None where there is no PCI bus (Orin)."""
    if pci is None or not pci.pciDeviceId or pci.bus > MOST_BUS or pci.device > MOST_DEVICE:
        return None
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def _capability(version: Any) -> str | None:
    if version is None or not 0 < version[0] <= MOST_CAPABILITY or not 0 <= version[1] <= MOST_CAPABILITY:
        return None
    return f"{version[0]}.{version[1]}"


if __name__ == "__main__":
    sys.exit(child.answer(_report))
