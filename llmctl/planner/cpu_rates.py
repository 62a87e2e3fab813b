"""The processor's rates: of the engine's kernels as measured here, or as far as bandwidth and cores tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.kernel_rows import KernelFigures, completed, measured, scaling
from llmctl.planner.memory import bits
from llmctl.planner.processor import figures_basis, modelled
from llmctl.planner.rates import COMPLETED, Rates
from llmctl.types.machine import AttentionRate, Kernels, Machine, MatrixRate
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
        return _measured(machine, settings, constants)
    stream, _ = modelled(machine, settings.threads, constants)
    _, flop = modelled(machine, settings.prefill_threads, constants)
    return Rates(
        {None: stream},
        {None: flop},
        kv_bytes_per_s=stream * constants.kv_share,
        attention_decode_flop_per_s=flop * constants.attention_decode_share,
        attention_prefill_flop_per_s=flop * constants.attention_prefill_share,
        layer_s=constants.layer_nodes / constants.nodes_per_s,
        basis=figures_basis(machine, constants),
        activation_s=constants.layer_passes / constants.elements_per_s,
    )


def best_threads(machine: Machine) -> tuple[int, int]:
    """Threads for decoding and for prefill: those that were measured to be the fastest here, else all usable cores.
    Only what undisturbed passes stand for is compared."""
    usable = machine.cpu.usable_threads
    certain = measured(machine.kernels).certain if machine.kernels is not None else {}
    decode, prefill = (scaling(certain, rate, usable) for rate in ("decode_bytes_per_s", "prefill_flop_per_s"))
    return _fastest(decode, usable), _fastest(prefill, usable)


def _fastest(shares: Mapping[int, float], usable: int) -> int:
    """By shares of the rate with all ``usable``; these, where nothing was measured with them."""
    count = max((one for one in shares if one <= usable), key=lambda one: shares[one], default=usable)
    return count if shares.get(count, 0.0) > WORTH_FEWER else usable


def _measured(machine: Machine, settings: CpuSettings, constants: SpeedConstants) -> Rates:
    here = measured(machine.kernels or Kernels(()))
    kernels = completed(machine, constants, (settings.threads, settings.prefill_threads))
    usable = machine.cpu.usable_threads
    decode_scaling, prefill_scaling = (
        {usable: 1.0} | scaling(here.certain, rate, usable) for rate in ("decode_bytes_per_s", "prefill_flop_per_s")
    )
    slower, slower_prefill = at(decode_scaling, settings.threads), at(prefill_scaling, settings.prefill_threads)
    chosen = _layouts(kernels.matrices, settings.repack)
    decode: dict[Kind, float] = {name: rate.decode_bytes_per_s * slower for name, rate in chosen.items()}
    prefill: dict[Kind, float] = {name: rate.prefill_flop_per_s * slower_prefill for name, rate in chosen.items()}
    _add_the_others(decode, prefill, constants)
    experts = _layouts(kernels.experts, settings.repack)
    both = [(rate, chosen[name]) for name, rate in experts.items() if name in chosen]
    overheads = {one.threads: one for one in kernels.overheads}
    node, batch = overheads[settings.threads], overheads[settings.prefill_threads]
    attention = _nearest(kernels.attention, settings)
    read_s, compute_s = _attention(attention)
    certain = not any(one.uncertain for one in (attention, node, batch))
    return Rates(
        decode,
        prefill,
        kv_bytes_per_s=slower / read_s if read_s else float("inf"),
        attention_decode_flop_per_s=slower / compute_s if compute_s else float("inf"),
        attention_prefill_flop_per_s=attention.prefill_flop_per_s * slower_prefill,
        layer_s=constants.layer_nodes / node.nodes_per_s,
        basis=Basis.CALIBRATED if certain else _in_part(machine, here, constants),
        activation_s=constants.layer_passes / batch.elements_per_s,
        expert_decode=median([one.decode_bytes_per_s / rate.decode_bytes_per_s for rate, one in both] or [1.0]),
        expert_prefill=median([one.prefill_flop_per_s / rate.prefill_flop_per_s for rate, one in both] or [1.0]),
        estimated=_estimated(chosen, constants),
        estimated_basis=_in_part(machine, here, constants),
    )


def _in_part(machine: Machine, here: KernelFigures, constants: SpeedConstants) -> str:
    """The range of what was estimated: from the kernels that were measured, or from figures alone."""
    return COMPLETED if any(one.group == "matrices" for one in here.certain) else figures_basis(machine, constants)


def _estimated(chosen: Mapping[str, MatrixRate], constants: SpeedConstants) -> frozenset[Kind]:
    """The weight types whose rates no undisturbed pass stands for, and what is told by their likeness."""
    uncertain = {name for name, rate in chosen.items() if rate.uncertain}
    like = {name for name, one in constants.likeness.items() if name not in chosen and one.measured in uncertain}
    return frozenset({*uncertain, *like, *([None] if uncertain else [])})


def _layouts(rates: Iterable[MatrixRate], repack: bool) -> dict[str, MatrixRate]:
    """Each weight type in the layout that it is given with ``repack``, or without."""
    found: dict[str, MatrixRate] = {}
    for rate in sorted(rates, key=lambda one: one.repacked == repack):
        if repack or not rate.repacked:
            found[rate.weight_type] = rate
    return found


def at(scaling: Mapping[int, float], threads: int) -> float:
    """The share with so many threads, on straight lines between those that were measured; never more than with the
    most of them."""
    known = sorted({0: 0.0, **scaling}.items())
    for (fewer, low), (more, high) in pairwise(known):
        if threads <= more:
            return low + (high - low) * (threads - fewer) / (more - fewer)
    return known[-1][1]


def _nearest(rates: Sequence[AttentionRate], settings: CpuSettings) -> AttentionRate:
    """With flash attention or without, as it is set, and this type of cache, else the one that is nearest in bits."""
    wanted = bits(settings.kv_type.upper())
    return min(rates, key=lambda one: (one.flash != settings.flash_attention, abs(bits(one.kv_type.upper()) - wanted)))


def _attention(rate: AttentionRate) -> tuple[float, float]:
    """Seconds for a byte of cache and for an operation in decoding: one and four heads of queries to each of the cache
    tell apart what reading and what computing takes."""
    alone_s, shared_s = 1 / rate.alone_bytes_per_s, 1 / rate.shared_bytes_per_s
    sharing_s = max(0.0, (shared_s - alone_s) / (MEASURED_SHARING - 1))
    flop_per_byte = 2 * 8 / bits(rate.kv_type.upper())  # with one head of queries: a product and a sum per element
    return max(0.0, alone_s - sharing_s), sharing_s / flop_per_byte


def _add_the_others(decode: dict[Kind, float], prefill: dict[Kind, float], constants: SpeedConstants) -> None:
    """Types that were not measured: told by their likeness to one that was, or (None) as the slowest."""
    slowest = min(decode.values()), min(prefill.values())
    for name, like in constants.likeness.items():
        if name not in decode and like.measured in decode:
            decode[name] = decode[like.measured] * like.decode
            prefill[name] = prefill[like.measured] * like.prefill
    decode[None], prefill[None] = slowest
