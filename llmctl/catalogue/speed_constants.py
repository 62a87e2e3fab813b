"""What speed is worked out with where nothing was measured here: ``profiles/speed.toml`` as frozen tables."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmctl.catalogue.device_constants import DeviceConstants
from llmctl.files.decode import Table
from llmctl.types.machine import AttentionRate, Kernels, MatrixRate, NodeRate


class Likeness(Struct, frozen=True):
    """A weight type that is not measured, told by one that is: factors on its decode and prefill rates."""

    measured: str
    decode: float
    prefill: float


class Range(Struct, frozen=True):
    """Factors on a prediction between which it should come out four times in five, of decoding and of prefill."""

    low: float
    high: float
    prefill_low: float
    prefill_high: float


class Core(Struct, frozen=True):
    """What one core of a processor with an instruction set does where nothing was measured, and the bandwidth of the
    slowest memory that such processors are sold with. ``name`` is a part of the processor's name that it must have;
    empty for any."""

    name: str
    feature: str
    decode_bytes_per_s: float
    prefill_flop_per_s: float
    memory_bytes_per_s: float


class SpeedConstants(Struct, frozen=True):
    """See ``planner.speed``; where each number comes from stands in ``profiles/speed.toml``. ``cores`` has the best
    instruction set first, and last one for any processor. ``reference`` is a complete measurement: what is missing in
    another one is filled in from its likeness to this (``planner.kernel_rows``); ``decode_shared`` and
    ``prefill_shared`` are the shares of the work that more threads don't speed up."""

    layer_nodes: float
    layer_passes: float
    nodes_per_s: float
    elements_per_s: float
    vocabulary_s: float
    kv_share: float
    attention_decode_share: float
    attention_prefill_share: float
    memory_share: float
    decode_shared: float
    prefill_shared: float
    unknown_device_bytes_per_s: float
    cores: tuple[Core, ...]
    reference: Kernels
    likeness: Mapping[str, Likeness]
    devices: DeviceConstants
    ranges: Mapping[str, Range]


def read_speed(table: Table, devices: DeviceConstants) -> SpeedConstants:
    """The tables out of the file, with those of ``devices``. Raises FieldError."""
    cpu = table.table("cpu")
    likeness = {}
    for name, row in table.table("like").named_tables().items():
        likeness[name] = Likeness(row.text("measured"), row.number("decode"), row.number("prefill"))
        row.end()
    ranges = {}
    for name, row in table.table("range").named_tables().items():
        ranges[name] = Range(
            row.number("low"), row.number("high"), row.number("prefill_low"), row.number("prefill_high")
        )
        row.end()
    constants = SpeedConstants(
        layer_nodes=cpu.number("layer_nodes"),
        layer_passes=cpu.number("layer_passes"),
        nodes_per_s=cpu.number("nodes_per_s"),
        elements_per_s=cpu.number("elements_per_s"),
        vocabulary_s=cpu.number("vocabulary_s"),
        kv_share=cpu.number("kv_share"),
        attention_decode_share=table.number("attention_decode_share"),
        attention_prefill_share=table.number("attention_prefill_share"),
        memory_share=cpu.number("memory_share"),
        decode_shared=cpu.number("decode_shared"),
        prefill_shared=cpu.number("prefill_shared"),
        unknown_device_bytes_per_s=table.number("unknown_device_bytes_per_s"),
        cores=tuple(_core(row) for row in table.tables("core")),
        reference=_kernels(table.table("reference")),
        likeness=likeness,
        devices=devices,
        ranges=ranges,
    )
    cpu.end()
    return constants


def _core(table: Table) -> Core:
    core = Core(
        name=table.text_or_none("name") or "",
        feature=table.text_or_none("feature") or "",
        decode_bytes_per_s=table.number("decode_bytes_per_s"),
        prefill_flop_per_s=table.number("prefill_flop_per_s"),
        memory_bytes_per_s=table.number("memory_bytes_per_s"),
    )
    table.end()
    return core


def _kernels(table: Table) -> Kernels:
    kernels = Kernels(
        matrices=tuple(map(_matrix, table.tables("matrices"))),
        experts=tuple(map(_matrix, table.tables("experts"))),
        attention=tuple(map(_attention, table.tables("attention"))),
        overheads=tuple(map(_node, table.tables("overheads"))),
    )
    table.end()
    return kernels


def _matrix(row: Table) -> MatrixRate:
    weight_type, repacked, threads = row.text("weight_type"), row.flag("repacked"), row.count("threads")
    decode, prefill = row.number("decode_bytes_per_s"), row.number("prefill_flop_per_s")
    row.end()
    return MatrixRate(weight_type, repacked, threads, decode, prefill)


def _attention(row: Table) -> AttentionRate:
    kv_type, flash, threads = row.text("kv_type"), row.flag("flash"), row.count("threads")
    alone, shared = row.number("alone_bytes_per_s"), row.number("shared_bytes_per_s")
    prefill = row.number("prefill_flop_per_s")
    row.end()
    return AttentionRate(kv_type, flash, threads, alone, shared, prefill)


def _node(row: Table) -> NodeRate:
    threads, nodes, elements = row.count("threads"), row.number("nodes_per_s"), row.number("elements_per_s")
    row.end()
    return NodeRate(threads, nodes, elements)
