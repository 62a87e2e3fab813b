"""What speed is worked out with where nothing was measured here: ``profiles/speed.toml`` as frozen tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmctl.catalogue.device_constants import DeviceConstants
from llmctl.catalogue.schema import Table


@dataclass(frozen=True, slots=True)
class Likeness:
    """A weight type that is not measured, told by one that is: factors on its decode and prefill rates."""

    measured: str
    decode: float
    prefill: float


@dataclass(frozen=True, slots=True)
class Range:
    """Factors on a prediction between which it should come out four times in five, of decoding and of prefill."""

    low: float
    high: float
    prefill_low: float
    prefill_high: float


@dataclass(frozen=True, slots=True)
class Core:
    """What one processor core with an instruction set does where nothing was measured, and the bandwidth of the slowest
    memory that such processors are sold with."""

    feature: str
    decode_bytes_per_s: float
    prefill_flop_per_s: float
    memory_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class SpeedConstants:
    """See ``planner.speed``; where each number comes from stands in ``profiles/speed.toml``. ``cores`` has the best
    instruction set first, and last one for any processor."""

    layer_nodes: float
    layer_passes: float
    nodes_per_s: float
    elements_per_s: float
    vocabulary_s: float
    kv_share: float
    attention_decode_share: float
    attention_prefill_share: float
    memory_share: float
    unknown_device_bytes_per_s: float
    cores: tuple[Core, ...]
    likeness: Mapping[str, Likeness]
    devices: DeviceConstants
    ranges: Mapping[str, Range]


def read_speed(table: Table, devices: DeviceConstants) -> SpeedConstants:
    """The tables out of the file, with those of ``devices``. Raises WrongFieldError."""
    cpu = table.table("cpu")
    likeness = {}
    for name, one in table.table("like").named_tables().items():
        likeness[name] = Likeness(one.text("measured"), one.number("decode"), one.number("prefill"))
        one.end()
    ranges = {}
    for name, one in table.table("range").named_tables().items():
        ranges[name] = Range(
            one.number("low"), one.number("high"), one.number("prefill_low"), one.number("prefill_high")
        )
        one.end()
    cores = []
    for one in table.tables("core"):
        feature = one.text_or_none("feature") or ""
        decode, prefill = one.number("decode_bytes_per_s"), one.number("prefill_flop_per_s")
        cores.append(Core(feature, decode, prefill, one.number("memory_bytes_per_s")))
        one.end()
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
        unknown_device_bytes_per_s=table.number("unknown_device_bytes_per_s"),
        cores=tuple(cores),
        likeness=likeness,
        devices=devices,
        ranges=ranges,
    )
    cpu.end()
    return constants
