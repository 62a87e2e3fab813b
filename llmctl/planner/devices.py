"""The devices that the engine would use on a machine, and how much of their memory is the machine's own."""

from __future__ import annotations

from llmctl.types.machine import Accelerator, AcceleratorKind, Machine


def devices(machine: Machine) -> tuple[Accelerator, ...]:
    """The devices that llama.cpp computes with: every discrete card; without one, the integrated GPU with most memory
    (llama_prepare_model_devices() in src/llama.cpp)."""
    usable = [gpu for gpu in machine.accelerators if gpu.usable and gpu.memory_free_bytes]
    cards = [gpu for gpu in usable if gpu.kind is AcceleratorKind.DISCRETE]
    if cards:
        return tuple(cards)
    roomiest = max(usable, key=lambda gpu: gpu.memory_free_bytes or 0, default=None)
    return () if roomiest is None else (roomiest,)


def borrowed_bytes(accelerator: Accelerator, needed_bytes: int) -> int:
    """Bytes of ``needed_bytes`` that lie in the machine's own memory: none with a card, all with a unified chip, what
    exceeds its carve-out with an APU. Where ``shared_bytes`` is unknown the kind decides."""
    if accelerator.shared_bytes is None:
        return 0 if accelerator.kind is AcceleratorKind.DISCRETE else needed_bytes
    free_bytes = accelerator.memory_free_bytes or 0
    own_bytes = max(0, (accelerator.memory_total_bytes or free_bytes) - accelerator.shared_bytes)
    return max(0, needed_bytes - min(own_bytes, free_bytes))


def shares_memory(accelerator: Accelerator) -> bool:
    """Whether some of the device's memory is the machine's own."""
    return bool(accelerator.shared_bytes) or accelerator.kind is not AcceleratorKind.DISCRETE
