"""The table of devices, ``profiles/devices.toml``: what GPUs, chips, boards and memory systems are specified with, and
which line of it a name means that a driver or a person gave.

A name is compared as a whole, after what vendors and drivers add to it (trade marks, "Graphics", a code name in
brackets) is taken away. It is never searched for in a longer one, so "RTX 3080 Laptop GPU" is no "RTX 3080".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from llmctl import units
from llmctl.files.decode import Table, read_toml
from llmctl.near import near
from llmctl.probe.described import product_name
from llmctl.probe.gpu.pci_ids import PCI_NUMBERS
from llmctl.types.machine import AcceleratorKind

FILE = "devices.toml"
SPECIFIED = "specified (profiles/devices.toml)"
MEMORY_SYSTEMS = "JEDEC"  # the vendor of lines that only a person can choose: how many modules there are, no name tells
GIB = 1 << 30
T = TypeVar("T")

KINDS: Mapping[str, AcceleratorKind | None] = {**{kind.value: kind for kind in AcceleratorKind}, "memory": None}
CHECKED = ("vendor", "arithmetic", "tables")
PCI_NUMBER = re.compile("[0-9a-f]{4}")
# A driver keeps some memory to itself, error correction takes a sixteenth, and some sizes are sold rounded.
LEAST_OF_SOLD, MOST_OF_SOLD = 0.88, 1.03


class Device(Struct, frozen=True):
    """One line. ``kind`` is None for a board or a memory system. ``memory_bytes`` are the sizes it is sold in, empty
    where it has none of its own; ``bandwidth_bytes_per_s`` is None where it is the machine's memory's. ``flop_per_s``:
    dense f16 summed in f32, see the file. ``keys`` are its names in the form that ``matching`` compares.
    ``note`` tells what was assumed about which of several kinds it is."""

    name: str
    vendor: str
    kind: AcceleratorKind | None
    source: str
    checked: str
    keys: frozenset[str]
    memory_bytes: tuple[int, ...] = ()
    bandwidth_bytes_per_s: float | None = None
    bus_width_bits: float | None = None
    pin_bits_per_s: float | None = None
    flop_per_s: float | None = None
    compute_capability: str | None = None
    architecture: str | None = None
    gpu_cores: tuple[int, ...] = ()
    pci_ids: tuple[str, ...] = ()
    note: str | None = None


@functools.cache
def load(profiles_dir: Path) -> tuple[Device, ...]:
    """All lines, in the file's order. It ships with llmctl, so that it is read once a
    process, and a mistake in it is a ConfigError naming the field."""
    return read_toml(profiles_dir / FILE, lambda document: tuple(_devices(document)))


def _devices(document: Table) -> Iterator[Device]:
    """Every line of every family; what is left out in a line is its family's."""
    families = document.tables("family")
    document.check(bool(families), "family", "a list of tables")
    for family in families:
        lines = family.tables("devices")
        family.check(bool(lines), "devices", "a list of tables")
        for line in lines:
            line.inherit(family)
            yield _device(line)


def find(
    devices: Sequence[Device],
    *,
    name: str | None = None,
    vendor: str | None = None,
    pci_id: str | None = None,
    memory_total_bytes: int | None = None,
) -> Device | None:
    """The device that is meant, or None. Of several kinds of one product that can't be told apart it is the slowest,
    then the smallest, and ``note`` says so; of several products it has what they have in common."""
    candidates = matching(
        devices,
        name=name,
        vendor=vendor,
        pci_id=pci_id,
        memory_total_bytes=memory_total_bytes,
    )
    if not candidates:
        return None
    names = list(dict.fromkeys(device.name for device in candidates))
    if len(names) > 1:
        return _common(candidates, " or ".join(names))
    slowest = min(candidates, key=lambda device: (device.bandwidth_bytes_per_s or 0.0, device.memory_bytes))
    kinds = dict.fromkeys(described(device) for device in candidates)
    if len(kinds) == 1:
        return slowest
    note = f"there are several kinds of {slowest.name} ({'; '.join(kinds)}): the slowest is assumed"
    return replace(slowest, note=note)


def soldered(devices: Sequence[Device], name: str, memory_total_bytes: int | None) -> Device | None:
    """The board or chip of that name, whose memory can be no other than the table's; of several kinds the one with as
    much memory as the machine has. Never a memory system."""
    fixed = [chip for chip in devices if chip.kind is not AcceleratorKind.DISCRETE and chip.vendor != MEMORY_SYSTEMS]
    return find(fixed, name=name, memory_total_bytes=memory_total_bytes) or find(fixed, name=name)


def matching(
    devices: Sequence[Device],
    *,
    name: str | None = None,
    vendor: str | None = None,
    pci_id: str | None = None,
    memory_total_bytes: int | None = None,
) -> tuple[Device, ...]:
    """Every line that it may be. A name that is known decides, with the PCI id where that is known too; else the id
    ("10de:2204") alone. Then memory (as the driver counts it, or in the name: "12GB") and Apple's GPU cores (also in
    the name: "40-core GPU"). A slice of a card is never the card."""
    product = product_name.read(name or "")
    if product.slice:
        return ()
    maker = vendor if vendor in product_name.BRANDS.values() else product.vendor
    pool = [device for device in devices if maker is None or device.kind is None or device.vendor == maker]
    by_id = [device for device in pool if pci_id is not None and pci_id.lower() in device.pci_ids]
    by_name: list[Device] = []
    for key in product.keys:
        by_name = by_name or [device for device in pool if key in device.keys]
    candidates = [device for device in by_name if device in by_id] or by_name or by_id
    if product.memory_gib is not None:
        candidates = [sized for device in candidates if (sized := _of_size(device, product.memory_gib * GIB))]
    if memory_total_bytes is not None:
        candidates = [sized for device in candidates if (sized := _of_size(device, memory_total_bytes))]
    cores = product.gpu_cores
    return tuple(device for device in candidates if cores is None or not device.gpu_cores or cores in device.gpu_cores)


def nearest(devices: Iterable[Device], name: str) -> list[str]:
    """Up to three names that are written much like ``name``, the nearest first."""
    return near(name, (device.name for device in devices), key=_spelling, likeness=0.6)


def _spelling(name: str) -> str:
    return product_name.key(name.lower())


def _of_size(device: Device, total: int) -> Device | None:
    """The device in the size that is as large as a driver, or a name, says; None if it isn't sold in one."""
    sizes = tuple(sold for sold in device.memory_bytes if LEAST_OF_SOLD * sold <= total <= MOST_OF_SOLD * sold)
    if not sizes and device.memory_bytes:
        return None
    return device if sizes == device.memory_bytes else replace(device, memory_bytes=sizes)


def described(device: Device) -> str:
    """What tells one kind of a product from another, for people: "12 GB, 360 GB/s"."""
    parts = [f"{cores}-core GPU" for cores in device.gpu_cores]
    parts += [" or ".join(f"{size // GIB} GB" for size in device.memory_bytes)] if device.memory_bytes else []
    parts += [units.rate(device.bandwidth_bytes_per_s)] if device.bandwidth_bytes_per_s else []
    return ", ".join(parts)


def _common(candidates: Sequence[Device], name: str) -> Device:
    def same(values: Collection[T]) -> T | None:
        return next(iter(values)) if len(set(values)) == 1 else None

    first = candidates[0]
    return replace(
        first,
        name=name,
        keys=frozenset(),
        memory_bytes=same([device.memory_bytes for device in candidates]) or (),
        bandwidth_bytes_per_s=same([device.bandwidth_bytes_per_s for device in candidates]),
        bus_width_bits=same([device.bus_width_bits for device in candidates]),
        pin_bits_per_s=same([device.pin_bits_per_s for device in candidates]),
        flop_per_s=same([device.flop_per_s for device in candidates]),
        compute_capability=same([device.compute_capability for device in candidates]),
        architecture=same([device.architecture for device in candidates]),
        gpu_cores=(),
    )


def _device(line: Table) -> Device:
    """One line, with what its family has in common. Raises FieldError."""
    name = line.text("name")
    line.where = f"device {name}"
    vendor, kind = line.text("vendor"), KINDS[line.one_of("kind", tuple(KINDS))]
    numbers = line.texts("pci")
    line.check(all(map(PCI_NUMBER.fullmatch, numbers)), "pci", "a list of four hexadecimal digits each")
    line.check(not numbers or vendor in PCI_NUMBERS, "pci", f"left out: it is for {', '.join(PCI_NUMBERS)}")
    device = Device(
        name=name,
        vendor=vendor,
        kind=kind,
        source=line.text("source"),
        checked=line.one_of("checked", CHECKED),
        keys=frozenset(product_name.key(alias.lower()) for alias in (name, *line.texts("aliases"))),
        memory_bytes=tuple(size * GIB for size in line.several_counts("memory_gib")),
        bandwidth_bytes_per_s=_times(line.positive_or_none("gb_per_s"), 10**9),
        bus_width_bits=_times(line.positive_or_none("bus_bits"), 1),
        pin_bits_per_s=_times(line.positive_or_none("pin_gbps"), 10**9),
        flop_per_s=_flop_per_s(line),
        compute_capability=line.text_or_none("compute_capability"),
        architecture=line.text_or_none("architecture"),
        gpu_cores=line.several_counts("gpu_cores"),
        pci_ids=tuple(f"{PCI_NUMBERS[vendor]}:{number}" for number in numbers),
    )
    line.end()
    return device


def _flop_per_s(line: Table) -> float | None:
    cores, mhz = line.positive_or_none("cores"), line.positive_or_none("boost_mhz")
    per_clock, tflops = line.positive_or_none("flop_per_core_clock"), line.positive_or_none("fp16_tflops")
    if tflops is not None:
        return float(tflops) * 1e12
    return float(cores * mhz * 1e6 * per_clock) if cores and mhz and per_clock else None


def _times(value: float | None, unit: int) -> float | None:
    return None if value is None else float(round(value * unit))
