"""NVIDIA cards, asked of NVML through pynvml in a process of its own: drivers hang and crash.

``python -m llmctl.probe.nvidia`` is that process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llmctl import child
from llmctl.host import Host
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory

T = TypeVar("T")

DEADLINE_S = 3.0


@dataclass(frozen=True, slots=True)
class Card:
    """What NVML says of one device. ``pci`` is lower case with a domain of four digits, as the kernel writes it."""

    name: str
    uuid: str | None
    pci: str | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    compute_capability: str | None
    memory_clock_mhz: int | None
    bus_width_bits: int | None


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of NVML. ``error`` is its own word when it could not start."""

    driver: str | None = None
    cards: tuple[Card, ...] = ()
    error: str | None = None


def nvidia(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """The cards that CUDA_VISIBLE_DEVICES lets count, and notes. Costs nothing where there is no driver."""
    windows = host.live and sys.platform.startswith("win")  # there only the library shows, which pynvml looks for
    if not windows and not visible(host):
        return (), ()
    if not windows and not reachable(host):
        return (), (
            "NVIDIA: the driver is loaded, but there is no /dev/nvidiactl: this container was started without its GPU "
            "(docker run --gpus all)",
        )
    return ask(host, deadline_s=DEADLINE_S) if host.live else ((), ())


def visible(host: Host) -> bool:
    """Whether a driver shows itself."""
    signs = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
    return any(host.exists(sign) for sign in signs)


def reachable(host: Host) -> bool:
    """Whether we are let through to the driver: its control device, or WSL's."""
    return host.exists("/dev/nvidiactl") or host.exists("/dev/dxg")


def ask(host: Host, *, deadline_s: float) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """Asks NVML in a child. Whatever goes wrong there is a note."""
    reply = host.ask(__name__, deadline_s=deadline_s)
    if reply.data is None:
        return (), (f"NVIDIA: the driver's library {reply.why}",)
    try:
        told = decode(Told, reply.data, "nvml")
    except MismatchError as error:
        return (), (f"NVIDIA: {error}",)
    if told.error is not None:
        return (), (f"NVIDIA: {told.error}",)
    notes = []
    choice = host.environ.get("CUDA_VISIBLE_DEVICES")
    shown = chosen(told.cards, choice)
    if choice and len({card.name for card in told.cards}) > 1 and host.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        notes.append("NVIDIA: CUDA counts unlike cards from the fastest; set CUDA_DEVICE_ORDER=PCI_BUS_ID to be sure")
    return tuple(_accelerator(card, told.driver, i) for i, card in enumerate(shown)), tuple(notes)


def chosen(cards: Sequence[Card], choice: str | None) -> tuple[Card, ...]:
    """The cards that CUDA would show: numbers or the beginning of uuids, in the order given, up to the first that
    does not exist (CUDA C++ Programming Guide, "CUDA Environment Variables")."""
    if choice is None:
        return tuple(cards)
    shown: list[Card] = []
    for word in (part.strip() for part in choice.split(",")):
        if word.isdecimal():
            matches = cards[int(word) : int(word) + 1] if len(word) < 4 else []
        else:
            matches = [card for card in cards if word and (card.uuid or "").startswith(word)]
        if len(matches) != 1 or matches[0] in shown:
            break
        shown.append(matches[0])
    return tuple(shown)


def _accelerator(card: Card, driver: str | None, index: int) -> Accelerator:
    bandwidth = None
    if card.memory_clock_mhz and card.bus_width_bits:
        # NVML's clock is that of the command bus; data moves on both edges: RTX 3090 9751 MHz x 2 x 384 bit = 936 GB/s
        bandwidth = card.memory_clock_mhz * 1e6 * 2 * card.bus_width_bits / 8
    return Accelerator(
        id=card.pci or f"nvidia{index}",
        name=card.name,
        vendor="NVIDIA",
        # chips that share the CPU's memory (GB10, Jetson) have none of their own to report
        kind=AcceleratorKind.UNIFIED if card.memory_total_bytes is None else AcceleratorKind.DISCRETE,
        memory_total_bytes=card.memory_total_bytes,
        memory_free_bytes=card.memory_free_bytes,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_basis="memory clock x bus width (NVML)" if bandwidth else None,
        driver=driver,
        compute_capability=card.compute_capability,
    )


def _tell(_: Any) -> dict[str, Any]:
    """In the child: everything NVML knows. A function that an old driver lacks leaves its field None."""
    import pynvml as untyped

    pynvml: Any = untyped

    def known(function: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return function(*arguments)
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return {"error": str(error).rstrip(".")}
    cards = []
    for index in range(count):
        handle = known(pynvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            continue
        memory = known(pynvml.nvmlDeviceGetMemoryInfo, handle)
        pci = known(pynvml.nvmlDeviceGetPciInfo, handle)
        capability = known(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
        cards.append(
            {
                "name": known(pynvml.nvmlDeviceGetName, handle) or "NVIDIA GPU",
                "uuid": known(pynvml.nvmlDeviceGetUUID, handle),
                "pci": _address(pci.busId) if pci else None,
                "memory_total_bytes": memory.total if memory else None,
                "memory_free_bytes": memory.free if memory else None,
                "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
                "memory_clock_mhz": known(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM),
                "bus_width_bits": known(pynvml.nvmlDeviceGetMemoryBusWidth, handle),
            }
        )
    return {"driver": known(pynvml.nvmlSystemGetDriverVersion), "cards": cards}


def _address(bus_id: str) -> str:
    """NVML's "00000000:01:00.0" as the kernel and ggml write it: "0000:01:00.0"."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


if __name__ == "__main__":
    sys.exit(child.answer(_tell))
