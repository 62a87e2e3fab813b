"""What the parts of the probe found, brought together: each card once, completed from the device table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from llmctl import units
from llmctl.probe.described import table
from llmctl.probe.described.document import CORRECT
from llmctl.probe.described.table import SPECIFIED, Device
from llmctl.probe.system import Platform
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Memory, Note

# What belongs together is taken from one source.
GROUPS = (
    ("memory_total_bytes", "memory_free_bytes", "shared_bytes"),
    ("bandwidth_bytes_per_s", "bandwidth_basis"),
    *((name,) for name in ("driver", "compute_capability", "engine_backend", "architecture", "api_version")),
    *((name,) for name in ("uuid", "pcie", "power_limit_w", "parent", "pci_id", "compute_flop_per_s")),
)
# "AMD GPU (1002:744c)", and pci.ids' lists: "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]"
NAMELESS = re.compile(r"(\w+ )?GPU( \([0-9a-f:]+\))?|.*\[.*/.*\]")
MOST_OFF = 0.1  # a card is sold with faster or slower memory by less than that, and overclocked by less


def merge(
    cards: Sequence[Accelerator], memory: Memory, cpu: Cpu, place: Platform, devices: Sequence[Device]
) -> tuple[tuple[Accelerator, ...], Memory, tuple[Note, ...]]:
    """The cards, each once; memory with its bandwidth where the chip or board is known by name; notes. Pure.

    The table never replaces a driver's figure, which is this card's, where the table's is the one that its kind is
    sold with. Where the two bandwidths are far apart a note has both: the memory may be clocked down or be of another
    type, or the table is wrong.
    """
    board = table.soldered(devices, place.board or "", memory.total_bytes or None)
    chip = table.soldered(devices, cpu.name, memory.total_bytes or None)
    with_device = [(card, _device(card, memory, devices)) for card in _deduplicated(cards)]
    shared = [device for _, device in with_device if device is not None and device.kind is not AcceleratorKind.DISCRETE]
    # the board first: a Jetson's GPU tells its chip, which boards of two speeds have
    memory, notes = _with_bandwidth(memory, (board, *shared, chip))
    completed = []
    for card, device in with_device:
        completed.append(_completed(card, device, memory))
        if device is not None and device.note and completed[-1].bandwidth_bytes_per_s != card.bandwidth_bytes_per_s:
            notes.append(Note(device.note, CORRECT))
        notes += _bandwidth_notes(card, devices)
    return tuple(completed), memory, tuple(dict.fromkeys(notes))


def _deduplicated(cards: Iterable[Accelerator]) -> list[Accelerator]:
    """Of several entries with one id the first, which is the vendor's own driver's, with what only the others know."""
    by_id: dict[str, Accelerator] = {}
    for card in cards:
        first = by_id.setdefault(card.id, card)
        added: dict[str, object] = {}
        for group in GROUPS:
            if getattr(first, group[0]) is None:
                added |= {name: getattr(card, name) for name in group}
        if NAMELESS.fullmatch(first.name):
            added["name"] = card.name
        by_id[card.id] = replace(first, **added)  # fields of one type, by name
    return list(by_id.values())


def _device(card: Accelerator, memory: Memory, devices: Sequence[Device]) -> Device | None:
    if card.parent is not None:
        return None  # a slice has a share of everything, and its card's PCI id
    if card.kind is AcceleratorKind.UNIFIED:
        return table.soldered(devices, card.name, memory.total_bytes or None)
    return table.find(
        devices,
        name=card.name,
        vendor=card.vendor,
        pci_id=card.pci_id,
        memory_total_bytes=card.memory_total_bytes if card.kind is AcceleratorKind.DISCRETE else None,
    )


def _with_bandwidth(memory: Memory, chips: Iterable[Device | None]) -> tuple[Memory, list[Note]]:
    """``memory`` with the bandwidth of the first chip that has one; what is known already stays."""
    chip = next((chip for chip in chips if chip is not None and chip.bandwidth_bytes_per_s), None)
    if memory.bandwidth_bytes_per_s is not None or chip is None:
        return memory, []
    completed = replace(memory, bandwidth_bytes_per_s=chip.bandwidth_bytes_per_s, bandwidth_basis=SPECIFIED)
    return completed, [Note(chip.note, CORRECT)] if chip.note else []


def _completed(card: Accelerator, device: Device | None, memory: Memory) -> Accelerator:
    discrete = card.kind is AcceleratorKind.DISCRETE
    if card.bandwidth_bytes_per_s is None and card.parent is None:
        if discrete:
            bandwidth, basis = (device.bandwidth_bytes_per_s, SPECIFIED) if device else (None, None)
        else:
            bandwidth, basis = memory.bandwidth_bytes_per_s, memory.bandwidth_basis
        card = replace(card, bandwidth_bytes_per_s=bandwidth, bandwidth_basis=basis if bandwidth else None)
    if device is None:
        return card
    sizes = device.memory_bytes if discrete and device.note is None else ()  # an engine that asks the card knows it
    return replace(
        card,
        name=_name(card, device),
        memory_total_bytes=sizes[0] if card.memory_total_bytes is None and len(sizes) == 1 else card.memory_total_bytes,
        compute_capability=card.compute_capability or device.compute_capability,
        architecture=card.architecture or device.architecture,
        compute_flop_per_s=card.compute_flop_per_s or (device.flop_per_s if card.parent is None else None),
    )


def _name(card: Accelerator, device: Device) -> str:
    """The product's name, where the card is known by numbers or by a list of products only."""
    if not NAMELESS.fullmatch(card.name):
        return card.name
    return device.name if device.name.startswith(card.vendor) else f"{card.vendor} {device.name}"


def _bandwidth_notes(card: Accelerator, devices: Sequence[Device]) -> list[Note]:
    """A note where the driver's bandwidth is not that of any kind of this product that the vendor specifies."""
    driver_rate = card.bandwidth_bytes_per_s
    if driver_rate is None or card.kind is not AcceleratorKind.DISCRETE or card.parent is not None:
        return []
    kinds = table.matching(
        devices,
        name=card.name,
        vendor=card.vendor,
        pci_id=card.pci_id,
        memory_total_bytes=card.memory_total_bytes,
    )
    specified = [
        kind.bandwidth_bytes_per_s for kind in kinds if kind.bandwidth_bytes_per_s and kind.checked != "tables"
    ]
    nearest = min(specified, key=lambda rate: abs(rate - driver_rate), default=driver_rate)
    if abs(driver_rate / nearest - 1) <= MOST_OFF:
        return []
    return [
        Note(
            f"{card.name} ({card.id}): by its driver the memory's bandwidth is {units.rate(driver_rate)}, specified is "
            f"{units.rate(nearest)} (profiles/devices.toml): the driver's counts"
        )
    ]
