"""The table of devices, ``profiles/devices.toml``: what GPUs, chips, boards and memory systems are specified with, and
which line of it a name means that a driver or a person gave.

A name is compared as a whole, after what vendors and drivers add to it (trade marks, "Graphics", a code name in
brackets) is taken away. It is never searched for in a longer one, so "RTX 3080 Laptop GPU" is no "RTX 3080".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli

from llmctl import units
from llmctl.errors import ConfigError
from llmctl.near import near
from llmctl.probe.described import product_name
from llmctl.types.machine import AcceleratorKind

FILE = "devices.toml"
SPECIFIED = "specified (profiles/devices.toml)"
MEMORY_SYSTEMS = "JEDEC"  # the vendor of lines that only a person can choose: how many modules there are, no name tells
GIB = 1 << 30
T = TypeVar("T")

PCI_VENDORS: Mapping[str, str] = {"NVIDIA": "10de", "AMD": "1002", "Intel": "8086"}
# A driver keeps some memory to itself, error correction takes a sixteenth, and some sizes are sold rounded.
LEAST_OF_SOLD, MOST_OF_SOLD = 0.88, 1.03


@dataclass(frozen=True, slots=True)
class Device:
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


def load(profiles_dir: Path) -> tuple[Device, ...]:
    """All lines, in the file's order. It ships with llmctl, so a mistake in it is a ConfigError naming the field."""
    file = profiles_dir / FILE
    try:
        with file.open("rb") as stream:
            families = tomli.load(stream).get("family")
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    try:
        return tuple(device for family in _tables(families, "family") for device in _family(family))
    except _WrongError as error:
        raise ConfigError(f"{file}: {error}") from error


def find(
    devices: Sequence[Device],
    *,
    name: str | None = None,
    vendor: str | None = None,
    pci_id: str | None = None,
    memory_total_bytes: int | None = None,
    gpu_cores: int | None = None,
) -> Device | None:
    """The device that is meant, or None. Of several kinds of one product that can't be told apart it is the slowest,
    then the smallest, and ``note`` says so; of several products it has what they have in common."""
    found = matching(
        devices,
        name=name,
        vendor=vendor,
        pci_id=pci_id,
        memory_total_bytes=memory_total_bytes,
        gpu_cores=gpu_cores,
    )
    if not found:
        return None
    names = list(dict.fromkeys(device.name for device in found))
    if len(names) > 1:
        return _common(found, " or ".join(names))
    slowest = min(found, key=lambda one: (one.bandwidth_bytes_per_s or 0.0, one.memory_bytes))
    kinds = dict.fromkeys(told(device) for device in found)
    if len(kinds) == 1:
        return slowest
    note = f"there are several kinds of {slowest.name} ({'; '.join(kinds)}): the slowest is assumed"
    return replace(slowest, note=note)


def soldered(devices: Sequence[Device], name: str, memory_total_bytes: int | None) -> Device | None:
    """The board or chip of that name, whose memory can be no other than the table's; of several kinds the one with as
    much memory as the machine has. Never a memory system."""
    fixed = [one for one in devices if one.kind is not AcceleratorKind.DISCRETE and one.vendor != MEMORY_SYSTEMS]
    return find(fixed, name=name, memory_total_bytes=memory_total_bytes) or find(fixed, name=name)


def matching(
    devices: Sequence[Device],
    *,
    name: str | None = None,
    vendor: str | None = None,
    pci_id: str | None = None,
    memory_total_bytes: int | None = None,
    gpu_cores: int | None = None,
) -> tuple[Device, ...]:
    """Every line that it may be. A name that is known decides, with the PCI id where that is known too; else the id
    ("10de:2204") alone. Then memory (as the driver counts it, or in the name: "12GB") and Apple's GPU cores (also in
    the name: "40-core GPU"). A slice of a card is never the card."""
    given = product_name.read(name or "")
    if given.slice:
        return ()
    maker = vendor if vendor in product_name.BRANDS.values() else given.vendor
    pool = [device for device in devices if maker is None or device.kind is None or device.vendor == maker]
    by_id = [device for device in pool if pci_id is not None and pci_id.lower() in device.pci_ids]
    by_name: list[Device] = []
    for key in given.keys:
        by_name = by_name or [device for device in pool if key in device.keys]
    found = [device for device in by_name if device in by_id] or by_name or by_id
    if given.memory_gib is not None:
        found = [one for device in found if (one := _of_size(device, given.memory_gib * GIB))]
    if memory_total_bytes is not None:
        found = [one for device in found if (one := _of_size(device, memory_total_bytes))]
    cores = gpu_cores if gpu_cores is not None else given.gpu_cores
    return tuple(one for one in found if cores is None or not one.gpu_cores or cores in one.gpu_cores)


def nearest(devices: Iterable[Device], name: str) -> list[str]:
    """Up to three names that are written much like ``name``, the nearest first."""
    return near(name, (device.name for device in devices), key=_spelling, likeness=0.6)


def _spelling(name: str) -> str:
    return product_name.key(name.lower())


def _of_size(device: Device, total: int) -> Device | None:
    """The device in the size that is as large as a driver, or a name, says; None if it isn't sold in one."""
    sizes = tuple(one for one in device.memory_bytes if LEAST_OF_SOLD * one <= total <= MOST_OF_SOLD * one)
    if not sizes and device.memory_bytes:
        return None
    return device if sizes == device.memory_bytes else replace(device, memory_bytes=sizes)


def told(device: Device) -> str:
    """What tells one kind of a product from another, for people: "12 GB, 360 GB/s"."""
    parts = [f"{cores}-core GPU" for cores in device.gpu_cores]
    parts += [" or ".join(f"{size // GIB} GB" for size in device.memory_bytes)] if device.memory_bytes else []
    parts += [units.rate(device.bandwidth_bytes_per_s)] if device.bandwidth_bytes_per_s else []
    return ", ".join(parts)


def _common(found: Sequence[Device], name: str) -> Device:
    def same(values: Collection[T]) -> T | None:
        return next(iter(values)) if len(set(values)) == 1 else None

    first = found[0]
    return replace(
        first,
        name=name,
        keys=frozenset(),
        memory_bytes=same([one.memory_bytes for one in found]) or (),
        bandwidth_bytes_per_s=same([one.bandwidth_bytes_per_s for one in found]),
        bus_width_bits=same([one.bus_width_bits for one in found]),
        pin_bits_per_s=same([one.pin_bits_per_s for one in found]),
        flop_per_s=same([one.flop_per_s for one in found]),
        compute_capability=same([one.compute_capability for one in found]),
        architecture=same([one.architecture for one in found]),
        gpu_cores=(),
    )


class _WrongError(Exception):
    pass


def _tables(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise _WrongError(f"{where} must be a list of tables")
    return value


def _family(family: dict[str, Any]) -> list[Device]:
    lines = _tables(family.pop("devices", None), "family.devices")
    where = f"the family of {lines[0].get('name')}"
    _check(family, SHARED, where)
    found = []
    for line in lines:
        where = f"device {line.get('name')}"
        _check(line, OWN, where)
        fields = {**family, **line}
        for key in ("name", "vendor", "kind", "source", "checked"):
            if key not in fields:
                raise _WrongError(f"{where}: {key} is missing")
        found.append(_device(fields, where))
    return found


def _check(fields: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key, value in fields.items():
        if key not in known:
            raise _WrongError(f"{where}: there is no field {key} here")
        expected, fits = FIELDS[key]
        if not fits(value):
            raise _WrongError(f"{where}: {key} must be {expected}")


def _device(fields: Mapping[str, Any], where: str) -> Device:
    vendor = fields["vendor"]
    pci = fields.get("pci", ())
    if pci and vendor not in PCI_VENDORS:
        raise _WrongError(f"{where}: pci is for {', '.join(PCI_VENDORS)}")
    return Device(
        name=fields["name"],
        vendor=vendor,
        kind=KINDS[fields["kind"]],
        source=fields["source"],
        checked=fields["checked"],
        keys=frozenset(product_name.key(one.lower()) for one in (fields["name"], *fields.get("aliases", ()))),
        memory_bytes=tuple(one * GIB for one in _several(fields.get("memory_gib", []))),
        bandwidth_bytes_per_s=_times(fields.get("gb_per_s"), 10**9),
        bus_width_bits=_times(fields.get("bus_bits"), 1),
        pin_bits_per_s=_times(fields.get("pin_gbps"), 10**9),
        flop_per_s=_flop_per_s(fields),
        compute_capability=fields.get("compute_capability"),
        architecture=fields.get("architecture"),
        gpu_cores=tuple(_several(fields.get("gpu_cores", []))),
        pci_ids=tuple(f"{PCI_VENDORS[vendor]}:{one}" for one in pci),
    )


def _flop_per_s(fields: Mapping[str, Any]) -> float | None:
    if "fp16_tflops" in fields:
        return float(fields["fp16_tflops"]) * 1e12
    if "cores" in fields and "boost_mhz" in fields and "flop_per_core_clock" in fields:
        return float(fields["cores"] * fields["boost_mhz"] * 1e6 * fields["flop_per_core_clock"])
    return None


def _times(value: Any, unit: int) -> float | None:
    return None if value is None else float(round(value * unit))


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1 << 63


def _counts(value: Any) -> bool:
    return all(isinstance(one, int) and _number(one) for one in _several(value))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _pci(value: Any) -> bool:
    return _texts(value) and all(re.fullmatch("[0-9a-f]{4}", one) for one in value)


KINDS: Mapping[str, AcceleratorKind | None] = {**{kind.value: kind for kind in AcceleratorKind}, "memory": None}
CHECKED = ("vendor", "arithmetic", "tables")
# What each field must be, in words and as a test.
FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "vendor": ("text", _text),
    "kind": (f"one of {', '.join(KINDS)}", lambda value: isinstance(value, str) and value in KINDS),
    "source": ("text", _text),
    "checked": (f"one of {', '.join(CHECKED)}", lambda value: isinstance(value, str) and value in CHECKED),
    "compute_capability": ("text", _text),
    "architecture": ("text", _text),
    "flop_per_core_clock": ("a number above 0", _number),
    "name": ("text", _text),
    "aliases": ("a list of texts", _texts),
    "memory_gib": ("a whole number above 0, or a list of them", _counts),
    "gpu_cores": ("a whole number above 0, or a list of them", _counts),
    "bus_bits": ("a number above 0", _number),
    "pin_gbps": ("a number above 0", _number),
    "gb_per_s": ("a number above 0", _number),
    "cores": ("a number above 0", _number),
    "boost_mhz": ("a number above 0", _number),
    "fp16_tflops": ("a number above 0", _number),
    "pci": ("a list of four hexadecimal digits each", _pci),
}
SHARED = frozenset({"vendor", "kind", "source", "checked", "compute_capability", "architecture", "flop_per_core_clock"})
OWN = frozenset(FIELDS) - {"vendor", "kind", "flop_per_core_clock"}
