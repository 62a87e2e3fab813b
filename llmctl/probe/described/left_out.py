"""What a machine document leaves out, filled in: from the rest of it, and from the device table.

A field counts as left out where its name isn't there; null is an answer, "unknown". So what doctor wrote, where every
field is there, is read back as it was, and what the document says always wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.files.decode import LARGEST, FieldError
from llmctl.probe.described import product_name, table
from llmctl.probe.described.table import SPECIFIED, Device
from llmctl.probe.gpu import apple
from llmctl.struct import asdict
from llmctl.types.machine import AcceleratorKind, Note

Fields = Mapping[str, Any]

ASSUMED_CORES = 4  # what a document that names no processor is planned with; a note says so

# The backend that is installed with the least, as ``engine.install`` has it where ROCm isn't known to be there.
BACKENDS: Mapping[str, str] = {"NVIDIA": "CUDA", "AMD": "Vulkan", "Intel": "Vulkan", "Apple": "Metal"}

# The share of the machine's memory that a GPU without its own may use. Linux lends AMD's half unless ttm.pages_limit
# says more (ttm_global_init() in drivers/gpu/drm/ttm/ttm_device.c). Mesa lets Intel's have three quarters of more than
# 4 GiB (anv_compute_sys_heap_size() in src/intel/vulkan/anv_device.c). Apple's share is of another kind.
SHARES: Mapping[str, float] = {"NVIDIA": 1.0, "AMD": 0.5, "Intel": 0.75}
OTHER_SHARE = 0.5


def complete(document: Any, devices: Sequence[Device]) -> tuple[Any, FieldError | None]:
    """``document`` with what was left out, and the error of the first accelerator that can't be completed.

    Raise that error only after ``decode``, whose message names a wrong field.

    Memory: all of it is available; its bandwidth is that of ``memory.system`` ("DDR5-5600 dual channel"), else of the
    chip or board that has it soldered on. One of the core counts stands for the others. An accelerator that the table
    knows is one of those, with all of its memory free; any other is a discrete card. It is usable, with the
    backend that is simplest to install.
    """
    if not isinstance(document, Mapping):
        return document, None
    machine, notes = dict(document), list[Note]()
    machine["cpu"] = _cpu(machine.get("cpu", {}), notes)
    memory = machine.get("memory")
    if isinstance(memory, Mapping):
        memory = _memory(memory, machine, devices, notes)
        machine["memory"] = memory
    missing: list[FieldError] = []
    if isinstance(cards := machine.get("accelerators"), list):
        around = memory if isinstance(memory, Mapping) else {}
        done = [_accelerator(card, i, around, devices, notes, missing) for i, card in enumerate(cards)]
        machine["accelerators"] = done
    if isinstance(written := machine.get("notes", []), list):
        machine["notes"] = _notes(written, notes)
    return machine, next(iter(missing), None)


def _notes(written: Sequence[Any], more: Sequence[Note]) -> list[Any]:
    """Those of the document, then what is not said there yet. A text is a note without a remedy: what doctor wrote
    once, and what people write."""
    tables = [asdict(Note(note)) if isinstance(note, str) else note for note in written]
    messages = [note.get("message") for note in tables if isinstance(note, Mapping)]
    return tables + [asdict(note) for note in dict.fromkeys(more) if note.message not in messages]


def _cpu(cpu: Any, notes: list[Note]) -> Any:
    if not isinstance(cpu, Mapping):
        return cpu
    counts = ("physical_cores", "usable_threads", "logical_cores")
    counts_given = [number for count in counts if (number := _count(cpu.get(count))) is not None] or [ASSUMED_CORES]
    if not set(counts) & set(cpu):
        message = f"the document names no processor: {ASSUMED_CORES} cores are assumed"
        notes.append(Note(message, "physical_cores = NUMBER   (in the document's cpu)"))
    return _filled(cpu, {"name": "unknown", "arch": "unknown", **dict.fromkeys(counts, counts_given[0])})


def _memory(memory: Fields, machine: Fields, devices: Sequence[Device], notes: list[Note]) -> Fields:
    total, system = memory.get("total_bytes"), memory.get("system")
    fields = {key: value for key, value in memory.items() if key != "system"}
    device = None
    if "system" in memory:
        systems = [device for device in devices if device.kind is None]
        device = table.find(systems, name=system) if isinstance(system, str) else None
        if device is None:
            near = table.nearest(systems, str(system)) or ["DDR5-5600 dual channel"]
            raise FieldError("machine.memory.system", f"must be a line of profiles/{table.FILE}, like {_or(near)}")
    elif "bandwidth_bytes_per_s" not in memory:
        device = _chip(machine, total, devices)
        if device is not None and device.note:
            notes.append(Note(device.note, "bandwidth_bytes_per_s = NUMBER   (in the document's memory)"))
    left_out = {"available_bytes": total} if "total_bytes" in memory else {}
    if device is not None:
        left_out |= _bandwidth(device.bandwidth_bytes_per_s, SPECIFIED)
    return _filled(fields, left_out)


def _chip(machine: Fields, total: Any, devices: Sequence[Device]) -> Device | None:
    """What the board, an accelerator or the processor is called, if the memory is soldered to it."""
    listed, cpu = machine.get("accelerators"), machine.get("cpu")
    cards = [card.get("name") for card in listed if isinstance(card, Mapping)] if isinstance(listed, list) else []
    for name in (machine.get("board"), *cards, cpu.get("name") if isinstance(cpu, Mapping) else None):
        if isinstance(name, str):
            device = table.soldered(devices, name, _count(total))
            if device is not None and device.bandwidth_bytes_per_s:
                return device
    return None


def _accelerator(
    card: Any, index: int, memory: Fields, devices: Sequence[Device], notes: list[Note], missing: list[FieldError]
) -> Any:
    if not isinstance(card, Mapping):
        return card
    name = _text(card, "name")
    device = _device(card, memory, devices)
    vendor = _text(card, "vendor") or (device.vendor if device else product_name.read(name or "").vendor) or "unknown"
    kind = card.get("kind", (device and device.kind) or AcceleratorKind.DISCRETE)
    left_out: dict[str, Any] = {"id": f"accelerator{index}", "vendor": vendor, "kind": str(kind)}
    if kind == AcceleratorKind.DISCRETE:
        left_out |= _own_memory(card, index, device, notes)
    else:
        left_out |= _shared_memory(card, vendor, memory)
    if device is not None:
        left_out |= {"compute_capability": device.compute_capability, "architecture": device.architecture}
    left_out |= {"engine_backend": BACKENDS.get(vendor), "usable": True}
    if name is not None and "memory_total_bytes" not in card and left_out["memory_total_bytes"] is None:
        missing.append(_unknown(name, index, devices))
    return _filled(card, left_out)


def _device(card: Fields, memory: Fields, devices: Sequence[Device]) -> Device | None:
    """The line of the table that the card's name, vendor and PCI id mean, in the size that is there if it is sold in
    that: a card that was refitted with other memory keeps its name."""
    gpus = [device for device in devices if device.kind is not None]
    name, vendor, pci_id = _text(card, "name"), _text(card, "vendor"), _text(card, "pci_id")
    any_size = table.find(gpus, name=name, vendor=vendor, pci_id=pci_id)
    own = any_size is None or any_size.kind is AcceleratorKind.DISCRETE
    total = _count(card.get("memory_total_bytes") if own else memory.get("total_bytes"))
    return table.find(gpus, name=name, vendor=vendor, pci_id=pci_id, memory_total_bytes=total) or any_size


def _own_memory(card: Fields, index: int, device: Device | None, notes: list[Note]) -> Fields:
    size, place = "memory_total_bytes = NUMBER", f"in the document's accelerators[{index}]"
    total = card.get("memory_total_bytes", min(device.memory_bytes, default=None) if device else None)
    if device is not None and "memory_total_bytes" not in card and len(device.memory_bytes) > 1:
        message = f"{device.name} is sold with {table.described(device)}: the least is assumed"
        notes.append(Note(message, f"{size}   ({place})"))
    if device is not None and device.note and {"memory_total_bytes", "bandwidth_bytes_per_s"} - set(card):
        notes.append(Note(device.note, f"{size}   (and bandwidth_bytes_per_s, {place})"))
    bandwidth = _bandwidth(device.bandwidth_bytes_per_s, SPECIFIED) if device else {}
    return {
        "memory_total_bytes": total,
        "memory_free_bytes": total,
        **_unless("bandwidth_bytes_per_s", card, bandwidth),
    }


def _shared_memory(card: Fields, vendor: str, memory: Fields) -> Fields:
    """A GPU without memory of its own has a share of the machine's, at its speed."""
    total, available = _count(memory.get("total_bytes")), _count(memory.get("available_bytes"))
    share = None
    if total is not None:
        apples = vendor == "Apple"
        share = apple.working_set_bytes(total, None) if apples else int(total * SHARES.get(vendor, OTHER_SHARE))
    size = card.get("memory_total_bytes", share)
    free = size if _count(size) is None or available is None else min(size, available)
    bandwidth = _bandwidth(memory.get("bandwidth_bytes_per_s"), memory.get("bandwidth_basis"))
    left_out = {"memory_total_bytes": size, "memory_free_bytes": free, "shared_bytes": size}
    return left_out | dict(_unless("bandwidth_bytes_per_s", card, bandwidth))


def _unknown(name: str, index: int, devices: Sequence[Device]) -> FieldError:
    near = table.nearest((device for device in devices if device.kind is not None), name)
    likeliest = f"; it knows {_or(near)}" if near else ""
    return FieldError(
        f"machine.accelerators[{index}].memory_total_bytes",
        f'is missing, and profiles/{table.FILE} has no "{name}"{likeliest}',
    )


def _bandwidth(bytes_per_s: Any, basis: Any) -> dict[str, Any]:
    return {} if bytes_per_s is None else {"bandwidth_bytes_per_s": bytes_per_s, "bandwidth_basis": basis}


def _unless(field: str, fields: Fields, left_out: Fields) -> Fields:
    """``left_out``, which belongs together, unless a part of it was given."""
    return {} if field in fields else left_out


def _text(fields: Fields, key: str) -> str | None:
    value = fields.get(key)
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST else None


def _or(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def _filled(fields: Fields, left_out: Fields) -> dict[str, Any]:
    """Both, what was given first, so that an error names what the user wrote."""
    return {**fields, **{key: value for key, value in left_out.items() if key not in fields}}
