"""The processor's rates: of the engine's kernels as measured here, or as far as bandwidth and cores tell."""

from __future__ import annotations

from llmctl.catalogue.speed_constants import Core, SpeedConstants
from llmctl.planner.rates import UNKNOWN, Rates
from llmctl.types.machine import KernelRate, Machine
from llmctl.types.plan import Basis


def cpu_rates(machine: Machine, threads: int, constants: SpeedConstants) -> Rates:
    """The CPU's, with ``threads`` of the usable ones (all types slow down in proportion)."""
    share = min(1.0, threads / max(1, machine.cpu.usable_threads))
    if machine.kernels:
        by_type = _by_type(machine.kernels, constants)
        decode = {name: flow * share for name, (flow, _) in by_type.items()}
        prefill = {name: operations * share for name, (_, operations) in by_type.items()}
        fastest = max(rate.decode_bytes_per_s for rate in machine.kernels) * share
        basis: str = Basis.CALIBRATED
    else:
        core, bandwidth = core_of(machine, constants), machine.memory.bandwidth_bytes_per_s
        memory = constants.memory_share * (bandwidth or core.memory_bytes_per_s)
        fastest = min(core.decode_bytes_per_s * threads, memory)
        decode, prefill = {None: fastest}, {None: core.prefill_flop_per_s * threads}
        basis = "cpu" if bandwidth else UNKNOWN
    return Rates(
        decode,
        prefill,
        kv_bytes_per_s=fastest * constants.kv_share,
        layer_s=constants.layer_s,
        basis=basis,
        activation_s=constants.activation_s,
        expert_share=constants.expert_share,
    )


def core_of(machine: Machine, constants: SpeedConstants) -> Core:
    """The best instruction set of this processor that something is known about."""
    return next(one for one in constants.cores if not one.feature or one.feature in machine.cpu.features)


def _by_type(kernels: tuple[KernelRate, ...], constants: SpeedConstants) -> dict[str | None, tuple[float, float]]:
    """Rates of every type: measured, told by its likeness to a measured one, or (None) those of the slowest."""
    found: dict[str | None, tuple[float, float]] = {
        one.weight_type: (one.decode_bytes_per_s, one.prefill_flop_per_s) for one in kernels
    }
    slowest = min(flow for flow, _ in found.values()), min(operations for _, operations in found.values())
    for name, like in constants.likeness.items():
        if name not in found and like.measured in found:
            flow, operations = found[like.measured]
            found[name] = flow * like.decode, operations * like.prefill
    found[None] = slowest
    return found
