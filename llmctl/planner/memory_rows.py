"""Rows of a memory plan: the planner's sums of one device, or the engine's own in their place."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.types.plan import CPU, Allocation, DeviceMemory

HOST_BUFFERS = (CPU, "host")  # CPU, CUDA_Host, Vulkan_Host


def device_memory(
    name: str, weights: int, repacked: int, kv: int, state: int, compute: int, available: int
) -> DeviceMemory:
    """A row with its sum; all in bytes."""
    total = weights + repacked + kv + state + compute
    return DeviceMemory(name, weights, repacked, kv, state, compute, total, available)


def as_engine_says(rows: Sequence[DeviceMemory], allocation: Allocation) -> list[DeviceMemory] | None:
    """The rows with the engine's own sums for cache, state and compute; each sum is divided among devices in the same
    proportion as before. None where the engine reports another number of devices."""
    on_host = {name: size for name, size in allocation.compute_bytes.items() if name.lower().endswith(HOST_BUFFERS)}
    on_devices = [size for name, size in allocation.compute_bytes.items() if name not in on_host]
    if len(on_devices) != len(rows) - 1:
        return None
    computes = [sum(on_host.values()) + allocation.output_bytes, *on_devices]
    kv, state = sum(row.kv_bytes for row in rows), sum(row.state_bytes for row in rows)
    return [
        device_memory(
            row.device,
            row.weights_bytes,
            row.repacked_bytes,
            allocation.kv_bytes * row.kv_bytes // kv if kv else 0,
            allocation.state_bytes * row.state_bytes // state if state else 0,
            compute,
            row.available_bytes,
        )
        for row, compute in zip(rows, computes, strict=True)
    ]
