"""The processor's rates: of the engine's kernels as measured here, or as far as bandwidth and cores tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from llmctl.catalogue.speed_constants import Core, SpeedConstants
from llmctl.planner.memory import bits
from llmctl.planner.rates import UNKNOWN, Rates
from llmctl.types.machine import AttentionRate, Kernels, Machine, MatrixRate, NodeRate
from llmctl.types.plan import Basis

Kind = str | None
MEASURED_SHARING = 4  # heads of queries to one of keys and values in AttentionRate.shared_bytes_per_s
WORTH_FEWER = 1.03  # fewer threads must be that much faster than all to be chosen: less is noise


@dataclass(frozen=True, slots=True)
class CpuSettings:
    """The settings that the processor's speed depends on; ``kv_type`` by ggml's name in lower case."""

    threads: int
    prefill_threads: int
    repack: bool
    flash_attention: bool
    kv_type: str


def cpu_rates(machine: Machine, settings: CpuSettings, constants: SpeedConstants) -> Rates:
    """Of the measured kernels, if there are any, else of the memory's bandwidth and the cores."""
    if machine.kernels is not None:
        return _measured(machine.kernels, settings, constants)
    core, bandwidth = core_of(machine, constants), machine.memory.bandwidth_bytes_per_s
    memory = constants.memory_share * (bandwidth or core.memory_bytes_per_s)
    stream = min(core.decode_bytes_per_s * settings.threads, memory)
    flop = core.prefill_flop_per_s * settings.prefill_threads
    return Rates(
        {None: stream},
        {None: flop},
        kv_bytes_per_s=stream * constants.kv_share,
        attention_decode_flop_per_s=flop * constants.attention_decode_share,
        attention_prefill_flop_per_s=flop * constants.attention_prefill_share,
        layer_s=constants.layer_nodes / constants.nodes_per_s,
        basis="cpu" if bandwidth else UNKNOWN,
        activation_s=constants.layer_passes / constants.elements_per_s,
    )


def core_of(machine: Machine, constants: SpeedConstants) -> Core:
    """The best instruction set of this processor that something is known about."""
    return next(one for one in constants.cores if not one.feature or one.feature in machine.cpu.features)


def best_threads(machine: Machine) -> tuple[int, int]:
    """Threads for decoding and for prefill: those that were measured to be the fastest here, else all usable cores."""
    usable = machine.cpu.usable_threads
    if machine.kernels is None:
        return usable, usable
    decode, prefill = _scaling(machine.kernels.matrices)
    return _fastest(decode, usable), _fastest(prefill, usable)


def _fastest(scaling: Mapping[int, float], usable: int) -> int:
    count = max((one for one in scaling if 0 < one <= usable), key=lambda one: scaling[one], default=usable)
    return count if scaling.get(count, 0.0) > WORTH_FEWER * scaling.get(usable, 0.0) else usable


def _measured(kernels: Kernels, settings: CpuSettings, constants: SpeedConstants) -> Rates:
    decode_scaling, prefill_scaling = _scaling(kernels.matrices)
    slower, slower_prefill = at(decode_scaling, settings.threads), at(prefill_scaling, settings.prefill_threads)
    chosen = _layouts(kernels.matrices, settings.repack)
    decode: dict[Kind, float] = {name: rate.decode_bytes_per_s * slower for name, rate in chosen.items()}
    prefill: dict[Kind, float] = {name: rate.prefill_flop_per_s * slower_prefill for name, rate in chosen.items()}
    _add_the_others(decode, prefill, constants)
    experts = _layouts(kernels.experts, settings.repack)
    both = [(rate, chosen[name]) for name, rate in experts.items() if name in chosen]
    node = _nodes(kernels.overheads, settings.threads, constants)
    batch = _nodes(kernels.overheads, settings.prefill_threads, constants)
    read_s, compute_s, attention_flop_per_s = _attention(kernels.attention, settings, decode, prefill, constants)
    return Rates(
        decode,
        prefill,
        kv_bytes_per_s=slower / read_s if read_s else float("inf"),
        attention_decode_flop_per_s=slower / compute_s if compute_s else float("inf"),
        attention_prefill_flop_per_s=attention_flop_per_s * slower_prefill,
        layer_s=constants.layer_nodes / node.nodes_per_s,
        basis=Basis.CALIBRATED,
        activation_s=constants.layer_passes / batch.elements_per_s,
        expert_decode=median([one.decode_bytes_per_s / rate.decode_bytes_per_s for rate, one in both] or [1.0]),
        expert_prefill=median([one.prefill_flop_per_s / rate.prefill_flop_per_s for rate, one in both] or [1.0]),
    )


def _layouts(rates: Iterable[MatrixRate], repack: bool) -> dict[str, MatrixRate]:
    """Each weight type with the most threads that it was measured with, in the layout that it is given with ``repack``,
    or without."""
    found: dict[str, MatrixRate] = {}
    for rate in sorted(rates, key=lambda one: (one.repacked == repack, one.threads)):
        if repack or not rate.repacked:
            found[rate.weight_type] = rate
    return found


def _scaling(rates: Iterable[MatrixRate]) -> tuple[dict[int, float], dict[int, float]]:
    """Decoding and prefill by number of threads, as shares of the rates with the usual number: the medians over the
    types and layouts that were measured with several."""
    usual: dict[tuple[str, bool], MatrixRate] = {}
    for rate in sorted(rates, key=lambda one: one.threads):
        usual[rate.weight_type, rate.repacked] = rate
    decode: dict[int, list[float]] = {}
    prefill: dict[int, list[float]] = {}
    for rate in rates:
        most = usual[rate.weight_type, rate.repacked]
        decode.setdefault(rate.threads, []).append(rate.decode_bytes_per_s / most.decode_bytes_per_s)
        prefill.setdefault(rate.threads, []).append(rate.prefill_flop_per_s / most.prefill_flop_per_s)
    return _medians(decode), _medians(prefill)


def _medians(shares: Mapping[int, Iterable[float]]) -> dict[int, float]:
    return {count: median(one) for count, one in shares.items()}


def at(scaling: Mapping[int, float], threads: int) -> float:
    """The share with so many threads, on straight lines between those that were measured; never more than with the
    most of them."""
    known = sorted({0: 0.0, **scaling}.items())
    for (fewer, low), (more, high) in pairwise(known):
        if threads <= more:
            return low + (high - low) * (threads - fewer) / (more - fewer)
    return known[-1][1]


def _nodes(overheads: Iterable[NodeRate], threads: int, constants: SpeedConstants) -> NodeRate:
    """As measured with the nearest number of threads."""
    reference = NodeRate(threads, constants.nodes_per_s, constants.elements_per_s)
    return min(overheads, key=lambda one: abs(one.threads - threads), default=reference)


def _attention(
    measured: Iterable[AttentionRate],
    settings: CpuSettings,
    decode: Mapping[Kind, float],
    prefill: Mapping[Kind, float],
    constants: SpeedConstants,
) -> tuple[float, float, float]:
    """Seconds for a byte of cache and for an operation in decoding, and operations per second in prefill.

    One and four heads of queries to each of the cache tell apart what reading and what computing takes. A cache type
    that was not measured is told by the nearest that was; without any, by shares of the matrix kernels' rates.
    """
    rank = (settings.kv_type, settings.flash_attention)
    alike = sorted(measured, key=lambda one: ((one.flash == rank[1]), one.kv_type == rank[0]))
    if not alike:
        flop = prefill.get("F16", prefill[None])
        share, prefill_share = constants.attention_decode_share, constants.attention_prefill_share
        return 1 / (max(decode.values()) * constants.kv_share), 1 / (flop * share), flop * prefill_share
    rate = alike[-1]
    alone_s, shared_s = 1 / rate.alone_bytes_per_s, 1 / rate.shared_bytes_per_s
    sharing_s = max(0.0, (shared_s - alone_s) / (MEASURED_SHARING - 1))
    flop_per_byte = 2 * 8 / bits(rate.kv_type.upper())  # with one head of queries: a product and a sum per element
    return max(0.0, alone_s - sharing_s), sharing_s / flop_per_byte, rate.prefill_flop_per_s


def _add_the_others(decode: dict[Kind, float], prefill: dict[Kind, float], constants: SpeedConstants) -> None:
    """Types that were not measured: told by their likeness to one that was, or (None) as the slowest."""
    slowest = min(decode.values()), min(prefill.values())
    for name, like in constants.likeness.items():
        if name not in decode and like.measured in decode:
            decode[name] = decode[like.measured] * like.decode
            prefill[name] = prefill[like.measured] * like.prefill
    decode[None], prefill[None] = slowest
