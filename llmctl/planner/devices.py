"""The devices that the engine would use on a machine, and how much of their memory is the machine's own."""

from __future__ import annotations

from llmctl.types.machine import Accelerator, AcceleratorKind, Machine


def devices(machine: Machine) -> tuple[Accelerator, ...]:
    """What llama.cpp computes with: every card, or what is integrated where there is no card
    (llama_prepare_model_devices() in src/llama.cpp)."""
    usable = [one for one in machine.accelerators if one.usable and one.memory_free_bytes]
    cards = [one for one in usable if one.kind is AcceleratorKind.DISCRETE]
    if cards:
        return tuple(cards)
    roomiest = max(usable, key=lambda one: one.memory_free_bytes or 0, default=None)
    return () if roomiest is None else (roomiest,)


def borrowed_bytes(accelerator: Accelerator, needed_bytes: int) -> int:
    """How much of what the device needs lies in the machine's own memory: nothing with a card, all of it with a
    unified chip, what goes beyond its carve-out with an APU. Where nothing is said of sharing, the kind tells."""
    if accelerator.shared_bytes is None:
        return 0 if accelerator.kind is AcceleratorKind.DISCRETE else needed_bytes
    free_bytes = accelerator.memory_free_bytes or 0
    own_bytes = max(0, (accelerator.memory_total_bytes or free_bytes) - accelerator.shared_bytes)
    return max(0, needed_bytes - min(own_bytes, free_bytes))


def shares_memory(accelerator: Accelerator) -> bool:
    """Whether some of the device's memory is the machine's own."""
    return bool(accelerator.shared_bytes) or accelerator.kind is not AcceleratorKind.DISCRETE
