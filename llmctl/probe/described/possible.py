"""The limits of the figures in a machine document; figures outside them would be divided by, or overflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llmctl.files.decode import FieldError
from llmctl.types.kernels import AttentionRate, MatrixRate, NodeRate
from llmctl.types.machine import Accelerator, Cache, Cpu, Disk, Machine, Memory, Network

THREADS = (1, 1 << 16)
DEVICE_THREADS = (0, 1 << 16)  # 0: on a GPU
BYTES = (0, 1 << 50)
RATE = (1e6, 1e15)  # bytes per second, from a floppy disk's interface to beyond any memory
FLOPS = (1e6, 1e18)
LIMITS: Mapping[tuple[type, str], tuple[float, float]] = {
    (Cpu, "physical_cores"): THREADS,
    (Cpu, "logical_cores"): THREADS,
    (Cpu, "usable_threads"): THREADS,
    (Cpu, "performance_cores"): THREADS,
    (Cache, "level"): (1, 9),
    (Cache, "size_bytes"): (1, 1 << 40),
    (Cache, "count"): THREADS,
    (Memory, "total_bytes"): (1, 1 << 50),
    (Memory, "available_bytes"): BYTES,
    (Memory, "swap_bytes"): BYTES,
    (Memory, "bandwidth_bytes_per_s"): RATE,
    (Accelerator, "memory_total_bytes"): BYTES,
    (Accelerator, "memory_free_bytes"): BYTES,
    (Accelerator, "shared_bytes"): BYTES,
    (Accelerator, "bandwidth_bytes_per_s"): RATE,
    (Accelerator, "compute_flop_per_s"): FLOPS,
    (Accelerator, "power_limit_w"): (0, 1e5),
    (Disk, "free_bytes"): (0, 1 << 62),
    (Network, "download_bytes_per_s"): (1, 1e12),
    (MatrixRate, "threads"): DEVICE_THREADS,
    (MatrixRate, "decode_bytes_per_s"): RATE,
    (MatrixRate, "prefill_flop_per_s"): FLOPS,
    (AttentionRate, "threads"): DEVICE_THREADS,
    (AttentionRate, "alone_bytes_per_s"): RATE,
    (AttentionRate, "shared_bytes_per_s"): RATE,
    (AttentionRate, "prefill_flop_per_s"): FLOPS,
    (NodeRate, "threads"): DEVICE_THREADS,
    (NodeRate, "nodes_per_s"): (1, 1e12),
    (NodeRate, "elements_per_s"): (1e3, 1e15),
}


def check(machine: Machine) -> None:
    """Raises FieldError, which names the field and both ends."""
    _check(machine, "machine")
    memory = machine.memory
    _at_most(memory.available_bytes, memory.total_bytes, "machine.memory.available_bytes", "total_bytes")
    for i, card in enumerate(machine.accelerators):
        total, free = card.memory_total_bytes, card.memory_free_bytes
        if total is not None and free is not None:
            _at_most(free, total, f"machine.accelerators[{i}].memory_free_bytes", "memory_total_bytes")
    for rates in ("matrices", "experts", "attention", "overheads"):
        for i, rate in enumerate(getattr(machine.kernels, rates, ())):
            if rate.threads == 0:
                raise FieldError(f"machine.kernels.{rates}[{i}].threads", "must be 1 or more: only a GPU's is 0")


def _check(value: Any, where: str) -> None:
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]")
    if not isinstance(value, Struct):
        return
    for name in value.__struct_fields__:
        inner = getattr(value, name)
        limits = LIMITS.get((type(value), name))
        if limits is not None and inner is not None and not limits[0] <= inner <= limits[1]:
            low, high = (_written(end) for end in limits)
            raise FieldError(f"{where}.{name}", f"must be from {low} to {high}, it is {inner:,}")
        _check(inner, f"{where}.{name}")


def _at_most(part: int, whole: int, where: str, of: str) -> None:
    if part > whole:
        raise FieldError(where, f"must be at most {of}, {whole:,}, it is {part:,}")


def _written(end: float) -> str:
    return f"{end:,}" if isinstance(end, int) else f"{end:.0e}".replace("e+", "e")
