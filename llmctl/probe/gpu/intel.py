"""Intel GPUs on Linux. What memory a card has, the kernel tells only through a driver call that needs its device file:
the device table then knows it by name, and an engine by asking."""

from __future__ import annotations

from llmctl.host import Host
from llmctl.probe.gpu import drm, pci_ids
from llmctl.probe.gpu.drm import DrmCard, size
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note

VENDOR = "Intel"
INTEGRATED = "0000:00:02."  # Intel's processor datasheets: "Processor Graphics", bus 0, device 2
SWITCH_LINK = "gen1 x1"  # what an Arc card says of the link to the switch on its own board, whatever slot it sits in


def intel(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[Note, ...]]:
    """The GPUs and notes on what could not be learnt."""
    cards = [card for card in drm.cards(host) if card.vendor == VENDOR]
    reached, notes = drm.reachable(host, cards)
    return tuple(_accelerator(host, card) for card in reached), drm.undriven(host, VENDOR) + notes


def _accelerator(host: Host, card: DrmCard) -> Accelerator:
    total, free = _memory(host, card)
    discrete = _is_discrete(host, card, total)
    link = drm.link(host, card) if discrete else None
    return Accelerator(
        id=card.address,
        name=drm.named(card, pci_ids.name(host, card.pci_id)),
        vendor=VENDOR,
        kind=AcceleratorKind.DISCRETE if discrete else AcceleratorKind.INTEGRATED,
        memory_total_bytes=total,
        memory_free_bytes=free,
        driver=drm.driver(host, card),
        pcie=None if link == SWITCH_LINK else link,
        power_limit_w=drm.power_limit(host, card, "power1_max"),
        pci_id=card.pci_id,
    )


def _memory(host: Host, card: DrmCard) -> tuple[int | None, int | None]:
    """A card's own memory, total and free. Intel's out-of-tree drivers for data centres tell it: i915 beside the card,
    xe for each tile (Level Zero, sysman kmd interface). Linux's own do not ("drm/xe: Remove vram size info from
    sysfs", before xe came with 6.8)."""
    total = size(host, f"{card.card}/lmem_total_bytes")
    if total:
        free = size(host, f"{card.card}/lmem_avail_bytes")
        return total, None if free is None else min(free, total)
    tiles = [size(host, name) for name in host.glob(f"{card.card}/device/tile*/physical_vram_size_bytes")]
    sizes = [tile for tile in tiles if tile]
    return (sum(sizes), None) if sizes and len(sizes) == len(tiles) else (None, None)


def _is_discrete(host: Host, card: DrmCard, total: int | None) -> bool:
    """Both drivers make sensors for cards alone (i915_hwmon.c and xe_hwmon.c: "hwmon is available only for dGfx"), and
    integrated graphics have their fixed place. In a virtual machine a card may get that place, but keeps its sensors.
    """
    sensors = host.glob(f"{card.card}/device/hwmon/hwmon*")
    return bool(total or sensors) or not card.address.startswith(INTEGRATED)
