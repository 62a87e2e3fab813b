"""Constants that speed is computed with where nothing was measured: ``profiles/speed.toml``."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmctl.catalogue.device_constants import DeviceConstants
from llmctl.catalogue.processors import ProcessorFamily
from llmctl.files.decode import Table
from llmctl.types.kernels import Kernels


class Likeness(Struct, frozen=True):
    """Factors that give a weight type's rates from those of the ``measured`` type that is most alike."""

    measured: str
    decode: float
    prefill: float


class Range(Struct, frozen=True):
    """Factors on predicted decode and prefill rates, between which four of five measurements should lie."""

    low: float
    high: float
    prefill_low: float
    prefill_high: float


class Core(Struct, frozen=True):
    """What one core of a processor with an instruction set does where nothing was measured, and the bandwidth of the
    slowest memory that such processors are sold with. ``name`` is a part of the processor's name that it must have;
    empty for any."""

    decode_bytes_per_s: float
    prefill_flop_per_s: float
    memory_bytes_per_s: float
    name: str = ""
    feature: str = ""


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
    further_answer: float
    decode_shared: float
    prefill_shared: float
    unknown_device_bytes_per_s: float
    slow_core_share: float
    cores: tuple[Core, ...]
    reference: Kernels
    likeness: Mapping[str, Likeness]
    devices: DeviceConstants
    families: tuple[ProcessorFamily, ...]
    ranges: Mapping[str, Range]


def read_speed(table: Table, devices: DeviceConstants, families: tuple[ProcessorFamily, ...]) -> SpeedConstants:
    """The tables out of the file, with those of ``devices`` and processors' ``families``. Raises FieldError."""
    cpu = table.table("cpu")
    return cpu.fill(
        SpeedConstants,
        attention_decode_share=table.number("attention_decode_share"),
        attention_prefill_share=table.number("attention_prefill_share"),
        unknown_device_bytes_per_s=table.number("unknown_device_bytes_per_s"),
        cores=table.structs("core", Core),
        reference=table.table("reference").fill(Kernels),
        likeness=table.named_structs("like", Likeness),
        devices=devices,
        families=families,
        ranges=table.named_structs("range", Range),
    )
