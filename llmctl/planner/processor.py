"""Rates of a processor whose kernels were not measured, from its cores, by instruction set, and its memory."""

from __future__ import annotations

from llmctl.catalogue.speed_constants import Core, SpeedConstants
from llmctl.planner.rates import UNKNOWN
from llmctl.types.machine import Machine


def modelled(machine: Machine, threads: int, constants: SpeedConstants) -> tuple[float, float]:
    """Bytes of weights streamed in decoding and operations done in prefill per second, from what is known of such a
    processor and of the memory."""
    core = core_of(machine, constants)
    memory = constants.memory_share * (_specified(machine) or core.memory_bytes_per_s)
    return min(core.decode_bytes_per_s * threads, memory), core.prefill_flop_per_s * threads


def _specified(machine: Machine) -> float | None:
    """The memory's bandwidth by its kind: not what the engine's kernels made of it in a part of a measurement."""
    memory = machine.memory
    of_kernels = machine.kernels is not None and (memory.bandwidth_basis or "").startswith(("measured", "estimated"))
    return None if of_kernels else memory.bandwidth_bytes_per_s


def core_of(machine: Machine, constants: SpeedConstants) -> Core:
    """The first entry of ``constants.cores`` that fits this processor's name and instruction sets."""
    cpu = machine.cpu
    return next(
        core for core in constants.cores if core.name in cpu.name and (not core.feature or core.feature in cpu.features)
    )


def knows_processor(machine: Machine, constants: SpeedConstants) -> bool:
    """Whether the figures of ``core_of`` are those of its kind of processor, not of the slowest with its
    instructions."""
    return bool(core_of(machine, constants).name)


def figures_basis(machine: Machine, constants: SpeedConstants) -> str:
    """The name of the range of ``modelled`` in ``speed.toml``."""
    certain = _specified(machine) or knows_processor(machine, constants)
    return "cpu" if certain else UNKNOWN
