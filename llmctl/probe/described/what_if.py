"""A machine with other memory or another GPU: what would be if."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmctl import units
from llmctl.errors import UsageError
from llmctl.files.decode import FieldError, decode
from llmctl.probe.described import left_out, possible
from llmctl.probe.described.table import Device
from llmctl.shell import command
from llmctl.struct import asdict
from llmctl.types.machine import AcceleratorKind, Machine

NO_GPU = "none"
SHARED = ("memory_total_bytes", "memory_free_bytes", "shared_bytes")


def changed(
    machine: Machine,
    devices: Sequence[Device],
    *,
    ram_bytes: int | None = None,
    vram_bytes: int | None = None,
    gpu: str | None = None,
) -> Machine:
    """``machine`` with so much memory in all, of which the same is taken as before; with ``gpu``, a name of the table
    of ``devices`` or "none", in the place of its own; with so much memory on its GPU, the largest if there are several.

    What shares the machine's memory has its share of the new one. Raises UsageError for a GPU that the table doesn't
    know, memory of a GPU that isn't there, and a share above the whole.
    """
    document: dict[str, Any] = json.loads(json.dumps(asdict(machine)))
    if ram_bytes is not None:
        _with_memory(document, ram_bytes)
    if gpu is not None:
        document["accelerators"] = [] if gpu.lower() == NO_GPU else [{"name": gpu}]
    if vram_bytes is not None:
        _with_device_memory(document, vram_bytes, named=gpu is not None)
    completed, missing = left_out.complete(document, devices)
    if missing is not None:
        problem = str(missing).partition(", and ")[2] or str(missing)
        asks = command("llmctl", "plan", "--gpu", gpu or "NAME", "--vram", "16GB")
        hint = f"{asks}   says what a GPU has that is not known"
        raise UsageError(f"--gpu is {gpu!r}: {problem}", hint=hint)
    try:
        described = decode(Machine, completed, "machine")
        possible.check(described)
    except FieldError as error:
        raise UsageError(f"no such machine can be: {error}") from error
    _check_shares(described)
    return described


def _check_shares(machine: Machine) -> None:
    whole = machine.memory.total_bytes
    for card in machine.accelerators:
        if (card.shared_bytes or 0) > whole:
            raise UsageError(
                f"the {card.name} shares the machine's memory of {units.size(whole)}, it can't have "
                f"{units.size(card.shared_bytes or 0)} of it",
                hint="llmctl plan --ram SIZE   is a machine with more",
            )


def _with_memory(document: dict[str, Any], ram_bytes: int) -> None:
    memory = document["memory"]
    taken = memory["total_bytes"] - memory["available_bytes"]
    memory |= {"total_bytes": ram_bytes, "available_bytes": max(0, ram_bytes - taken)}
    memory |= {"limit_bytes": None, "limit_source": None}
    for card in document["accelerators"]:
        if card["kind"] != AcceleratorKind.DISCRETE:
            for field in SHARED:
                del card[field]


def _with_device_memory(document: dict[str, Any], vram_bytes: int, *, named: bool) -> None:
    cards = document["accelerators"]
    if not cards:
        raise UsageError(
            "--vram needs a GPU, and this machine has none", hint='llmctl plan --gpu "GeForce RTX 4060" --vram 16GB'
        )
    largest = max(cards, key=lambda card: card.get("memory_total_bytes") or 0)
    if named:
        largest["memory_total_bytes"] = vram_bytes
    elif largest["kind"] == AcceleratorKind.DISCRETE:
        largest |= {"memory_total_bytes": vram_bytes, "memory_free_bytes": vram_bytes}
    else:  # a larger share of the machine's memory, and no more of it is free than before
        for field in SHARED:
            largest.pop(field, None)
        largest["memory_total_bytes"] = vram_bytes
