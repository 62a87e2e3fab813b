"""NVIDIA cards as the kernel knows them: run by NVIDIA's driver, by another, or by none."""

from __future__ import annotations

import re

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe.gpu import drm
from llmctl.probe.gpu.pci_ids import VENDORS

VENDOR = "NVIDIA"
VERSION = re.compile(r"\b\d{2,4}(?:\.\d{1,4}){1,2}\b")

LIBRARY_PLACES = (
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib64/libnvidia-ml.so.1",
    "/usr/lib/libnvidia-ml.so.1",
)


class KernelCard(Struct, frozen=True):
    """``address`` has a PCI domain only where a driver that shows pictures has the card: /proc/bus/pci leaves it out.
    ``driver`` is the kernel's word: nvidia, nouveau, vfio-pci; None for none."""

    address: str
    pci_id: str | None
    driver: str | None


def cards(host: Host) -> tuple[KernelCard, ...]:
    """Every NVIDIA GPU that the kernel sees, with any driver."""
    shown = [KernelCard(card.address, card.pci_id, card.driver) for card in drm.cards(host) if card.vendor == VENDOR]
    addresses = {card.address.partition(":")[2] for card in shown}
    others = (
        KernelCard(device.address, device.pci_id, device.driver)
        for device in drm.on_the_bus(host)
        # the sound of a card has no large window, nor has an NVSwitch
        if VENDORS[device.pci_id[:4]] == VENDOR and device.window_bytes >= drm.SMALLEST_WINDOW_BYTES
    )
    return (*shown, *(card for card in others if card.address not in addresses))


def version(host: Host) -> str | None:
    """The version of NVIDIA's kernel module, "550.90.07"."""
    first = (host.read("/proc/driver/nvidia/version") or "").partition("\n")[0]
    match = VERSION.search(first) if first.startswith("NVRM version:") else None
    return match[0] if match else None


def installed(host: Host) -> bool:
    """Whether the driver's library lies where distributions put it."""
    return any(host.exists(place) for place in LIBRARY_PLACES)
