"""The processor's rates: from the engine's kernels as measured on this machine, else from bandwidth and cores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from msgspec import Struct

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.kernel_rows import KernelFigures, completed, measured, scaling
from llmctl.planner.memory import bits
from llmctl.planner.processor import figures_basis, modelled
from llmctl.planner.rates import COMPLETED, DeviceRates
from llmctl.types.kernels import AttentionRate, Kernels, MatrixRate
from llmctl.types.machine import Cpu, Machine
from llmctl.types.plan import Basis

Kind = str | None
MEASURED_SHARING = 4  # heads of queries to one of keys and values in AttentionRate.shared_bytes_per_s
WORTH_FEWER = 1.03  # fewer threads must be that much faster than all to be chosen: less is noise


class CpuSettings(Struct, frozen=True):
    """The settings that the processor's speed depends on. ``kv_type`` is ggml's name in lower case."""

    threads: int
    prefill_threads: int
    repack: bool
    flash_attention: bool
    kv_type: str


def cpu_rates(
    machine: Machine, settings: CpuSettings, constants: SpeedConstants, kernels: Kernels | None = None
) -> DeviceRates:
    """The processor's rates with ``settings``: from the measured kernels, else from the memory's bandwidth and the
    cores. ``kernels`` are the machine's, ``completed`` with the threads of ``settings``, where the caller has them."""
    if machine.kernels is not None:
        counts = (settings.threads, settings.prefill_threads)
        return _measured(machine, settings, constants, kernels or completed(machine, constants, counts))
    decoding, reading = (quota_share(machine.cpu, count) for count in (settings.threads, settings.prefill_threads))
    stream, _ = modelled(machine, settings.threads, constants)
    _, flop = modelled(machine, settings.prefill_threads, constants)
    stream, flop = stream * decoding, flop * reading
    return DeviceRates(
        {None: stream},
        {None: flop},
        kv_bytes_per_s=stream * constants.kv_share,
        attention_decode_flop_per_s=flop * constants.attention_decode_share,
        attention_prefill_flop_per_s=flop * constants.attention_prefill_share,
        layer_s=constants.layer_nodes / constants.nodes_per_s,
        basis=figures_basis(machine, constants),
        activation_s=constants.layer_passes / constants.elements_per_s,
        batch_steps=_batch_steps(_layouts(constants.reference.matrices, settings.repack), constants.reference),
    )


def best_threads(machine: Machine) -> tuple[int, int]:
    """Numbers of threads for decoding and for prefill: those that were measured to be the fastest on this machine in
    undisturbed passes, else all usable cores."""
    usable = machine.cpu.usable_threads
    certain = measured(machine.kernels).certain if machine.kernels is not None else {}
    decode, prefill = (
        {count: share * quota_share(machine.cpu, count) for count, share in scaling(certain, rate, usable).items()}
        for rate in ("decode_bytes_per_s", "prefill_flop_per_s")
    )
    return _fastest(decode, usable, machine.cpu), _fastest(prefill, usable, machine.cpu)


def quota_share(cpu: Cpu, threads: int) -> float:
    """The share of the time that so many threads may compute: a container that has used up its quota stands still
    until the next tenth of a second. Measured rates are those of the time between."""
    return 1.0 if cpu.quota is None else min(1.0, cpu.quota / threads)


def _fastest(shares: Mapping[int, float], usable: int, cpu: Cpu) -> int:
    """The number of threads with the highest share of the rate with all ``usable`` ones; ``usable`` unless it is
    faster by WORTH_FEWER."""
    count = max((n for n in shares if n <= usable), key=lambda n: shares[n], default=usable)
    return count if shares.get(count, 0.0) > WORTH_FEWER * quota_share(cpu, usable) else usable


def _measured(machine: Machine, settings: CpuSettings, constants: SpeedConstants, kernels: Kernels) -> DeviceRates:
    figures = measured(machine.kernels or Kernels(()))
    usable = machine.cpu.usable_threads
    decode_scaling, prefill_scaling = (
        {usable: 1.0} | scaling(figures.certain, rate, usable) for rate in ("decode_bytes_per_s", "prefill_flop_per_s")
    )
    decoding, reading = (quota_share(machine.cpu, count) for count in (settings.threads, settings.prefill_threads))
    slower = decoding * at(decode_scaling, settings.threads)
    slower_prefill = reading * at(prefill_scaling, settings.prefill_threads)
    chosen = _layouts(kernels.matrices, settings.repack)
    decode: dict[Kind, float] = {name: rate.decode_bytes_per_s * slower for name, rate in chosen.items()}
    prefill: dict[Kind, float] = {name: rate.prefill_flop_per_s * slower_prefill for name, rate in chosen.items()}
    _add_the_others(decode, prefill, constants)
    experts = _layouts(kernels.experts, settings.repack)
    both = [(rate, chosen[name]) for name, rate in experts.items() if name in chosen]
    overheads = {row.threads: row for row in kernels.overheads}
    node, batch = overheads[settings.threads], overheads[settings.prefill_threads]
    attention = _nearest(kernels.attention, settings)
    read_s, compute_s = _attention(attention)
    certain = not any(row.uncertain for row in (attention, node, batch))
    return DeviceRates(
        decode,
        prefill,
        kv_bytes_per_s=slower / read_s if read_s else float("inf"),
        attention_decode_flop_per_s=slower / compute_s if compute_s else float("inf"),
        attention_prefill_flop_per_s=attention.prefill_flop_per_s * slower_prefill,
        layer_s=constants.layer_nodes / (decoding * node.nodes_per_s),
        basis=Basis.CALIBRATED if certain else _in_part(machine, figures, constants),
        activation_s=constants.layer_passes / (reading * batch.elements_per_s),
        expert_decode=median([expert.decode_bytes_per_s / rate.decode_bytes_per_s for rate, expert in both] or [1.0]),
        expert_prefill=median([expert.prefill_flop_per_s / rate.prefill_flop_per_s for rate, expert in both] or [1.0]),
        estimated=_estimated(chosen, constants),
        estimated_basis=_in_part(machine, figures, constants),
        batch_steps=_batch_steps(chosen, kernels),
    )


def _batch_steps(chosen: Mapping[str, MatrixRate], kernels: Kernels) -> dict[str, dict[int, float]]:
    """By weight type and number of vectors, how many times as long as with one their product takes, each type in the
    ``chosen`` layout. More vectors never take less."""
    steps: dict[str, dict[int, float]] = {}
    for batch in sorted(kernels.batches, key=lambda batch: batch.columns):
        single = chosen.get(batch.weight_type)
        if single is not None and single.repacked == batch.repacked:
            flop_per_byte = 2 * 8 / bits(batch.weight_type) * batch.columns
            of_type = steps.setdefault(batch.weight_type, {})
            fewer = max(of_type.values(), default=1.0)
            of_type[batch.columns] = max(fewer, single.decode_bytes_per_s * flop_per_byte / batch.batch_flop_per_s)
    return steps


def _in_part(machine: Machine, figures: KernelFigures, constants: SpeedConstants) -> str:
    """The name of the range of estimated rates: from other measured kernels, or from figures alone."""
    any_matrix = any(figure.group == "matrices" for figure in figures.certain)
    return COMPLETED if any_matrix else figures_basis(machine, constants)


def _estimated(chosen: Mapping[str, MatrixRate], constants: SpeedConstants) -> frozenset[Kind]:
    """The weight types whose rates come from no undisturbed pass, and those that are estimated from them."""
    uncertain = {name for name, rate in chosen.items() if rate.uncertain}
    alike = {name for name, like in constants.likeness.items() if name not in chosen and like.measured in uncertain}
    return frozenset({*uncertain, *alike, *([None] if uncertain else [])})


def _layouts(rates: Iterable[MatrixRate], repack: bool) -> dict[str, MatrixRate]:
    """The rates of each weight type in the layout that the engine uses with or without ``repack``."""
    by_type: dict[str, MatrixRate] = {}
    for rate in sorted(rates, key=lambda rate: rate.repacked == repack):
        if repack or not rate.repacked:
            by_type[rate.weight_type] = rate
    return by_type


def at(scaling: Mapping[int, float], threads: int) -> float:
    """The share of the full rate with ``threads``, interpolated between the measured numbers of threads, and not
    extrapolated beyond the largest."""
    points = sorted({0: 0.0, **scaling}.items())
    for (fewer, low), (more, high) in pairwise(points):
        if threads <= more:
            return low + (high - low) * (threads - fewer) / (more - fewer)
    return points[-1][1]


def _nearest(rates: Sequence[AttentionRate], settings: CpuSettings) -> AttentionRate:
    """The measured attention with the same flash setting and cache type, else the cache type nearest in bits."""
    wanted = bits(settings.kv_type.upper())
    return min(rates, key=lambda row: (row.flash != settings.flash_attention, abs(bits(row.kv_type.upper()) - wanted)))


def _attention(rate: AttentionRate) -> tuple[float, float]:
    """Seconds for a byte of cache and for an operation in decoding. Reading and computing are told apart by the rates
    with one and with MEASURED_SHARING heads of queries to each head of the cache."""
    alone_s, shared_s = 1 / rate.alone_bytes_per_s, 1 / rate.shared_bytes_per_s
    sharing_s = max(0.0, (shared_s - alone_s) / (MEASURED_SHARING - 1))
    flop_per_byte = 2 * 8 / bits(rate.kv_type.upper())  # with one head of queries: a product and a sum per element
    return max(0.0, alone_s - sharing_s), sharing_s / flop_per_byte


def _add_the_others(decode: dict[Kind, float], prefill: dict[Kind, float], constants: SpeedConstants) -> None:
    """Types that were not measured: estimated from the measured one that is most alike, or (None) as the slowest."""
    slowest = min(decode.values()), min(prefill.values())
    for name, like in constants.likeness.items():
        if name not in decode and like.measured in decode:
            decode[name] = decode[like.measured] * like.decode
            prefill[name] = prefill[like.measured] * like.prefill
    decode[None], prefill[None] = slowest
