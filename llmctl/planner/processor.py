"""Rates of a processor whose kernels were not measured, from its cores, by instruction set, and its memory."""

from __future__ import annotations

from llmctl.catalogue.processors import ProcessorFamily
from llmctl.catalogue.speed_constants import Core, SpeedConstants
from llmctl.planner.rates import UNKNOWN
from llmctl.types.machine import Cpu, Machine


def modelled(machine: Machine, threads: int, constants: SpeedConstants) -> tuple[float, float]:
    """Bytes of weights streamed in decoding and operations done in prefill per second, from what is known of such a
    processor and of the memory."""
    core, family = core_of(machine, constants), family_of(machine, constants)
    of_kind = core.memory_bytes_per_s if family is None else family.bandwidth_bytes_per_s
    memory = constants.memory_share * (_specified(machine) or of_kind)
    work = _fast_cores(machine.cpu, threads, constants)
    return min(core.decode_bytes_per_s * work, memory), core.prefill_flop_per_s * work


def _fast_cores(cpu: Cpu, threads: int, constants: SpeedConstants) -> float:
    """How many fast cores do the work of so many threads."""
    fast = min(threads, cpu.performance_cores or threads)
    return fast + constants.slow_core_share * (threads - fast)


def family_of(machine: Machine, constants: SpeedConstants) -> ProcessorFamily | None:
    """The processor's family, None where it isn't in the table."""
    return next((family for family in constants.families if family.has(machine.cpu.name)), None)


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
    if _specified(machine):
        return "cpu"
    if family_of(machine, constants) is not None:
        return "family"
    return "cpu" if knows_processor(machine, constants) else UNKNOWN
