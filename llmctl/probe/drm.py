"""Graphics cards as the kernel lists them in sysfs: enough to see that one is there, before any driver is asked."""

from __future__ import annotations

import re

from llmctl.host import Host
from llmctl.probe.text import pairs
from llmctl.types.machine import Accelerator, AcceleratorKind

VENDORS = {"0x1002": "AMD", "0x8086": "Intel", "0x10de": "NVIDIA"}  # PCI vendor numbers of GPUs that llama.cpp can use
INTEL_INTEGRATED = "0000:00:02.0"  # where Intel's integrated graphics sit; its cards are behind a bridge
SMALLEST_CARD_BYTES = 4 << 30


def drm(host: Host) -> tuple[Accelerator, ...]:
    """Every GPU of a known vendor under /sys/class/drm, in the kernel's order.

    Whether an AMD GPU is integrated is taken from the size of its own memory: a carve-out is small, a card that can
    run a model is not. The engine's own list, where there is one, corrects it.
    """
    found = []
    for card in host.glob("/sys/class/drm/card*"):
        if not re.fullmatch(r".*/card\d+", card):  # card0-HDMI-A-1 is a connector
            continue
        device = f"{card}/device"
        number = (host.read(f"{device}/vendor") or "").strip().lower()
        vendor = VENDORS.get(number)
        if vendor is None:
            continue
        described = pairs(host.read(f"{device}/uevent"), "=")
        address = described.get("PCI_SLOT_NAME", "").lower() or card.rpartition("/")[2]
        total = _bytes(host, f"{device}/mem_info_vram_total")
        used = _bytes(host, f"{device}/mem_info_vram_used")
        integrated = address == INTEL_INTEGRATED or (total is not None and total < SMALLEST_CARD_BYTES)
        pci = described.get("PCI_ID", "").lower()
        given = (host.read(f"{device}/product_name") or "").strip()
        found.append(
            Accelerator(
                id=address,
                name=given or (f"{vendor} GPU ({pci})" if pci else f"{vendor} GPU"),
                vendor=vendor,
                kind=AcceleratorKind.INTEGRATED if integrated else AcceleratorKind.DISCRETE,
                memory_total_bytes=total,
                memory_free_bytes=None if total is None or used is None else max(0, total - used),
                driver=described.get("DRIVER"),
            )
        )
    return tuple(found)


def _bytes(host: Host, name: str) -> int | None:
    value = host.read_int(name)
    return value if value is not None and value >= 0 else None
