"""Constants that the speed of devices is computed with: ``profiles/backends.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from msgspec import Struct

from llmctl.files.decode import Table
from llmctl.types.machine import Accelerator


class DeviceFactors(Struct, frozen=True):
    """Factors on the rates of some devices of a backend: those whose compute capability, architecture, kind or vendor
    is one of ``these``, or whose name has one of them in it. ``bytes_per_flop``: on the most that decoding streams."""

    these: tuple[str, ...]
    decode: float = 1.0
    prefill: float = 1.0
    bytes_per_flop: float = 1.0

    def has(self, device: Accelerator) -> bool:
        exact = (device.compute_capability, device.architecture, device.vendor, device.kind.value)
        return any(word in exact or f" {word.lower()} " in f" {device.name.lower()} " for word in self.these)


class Backend(Struct, frozen=True):
    """How fast one backend of the engine is on a device.

    Decoding streams at ``share`` of the specified bandwidth, but no more than ``bytes_per_flop`` for each operation
    that is specified, and takes ``layer_s`` for each layer besides. Where ``k_bytes_per_flop`` is given, that limits
    K-quants, and their share of bandwidth doesn't. Prefill computes at the least of ``peak_share`` of the specified
    rate and the geometric mean of that and ``prefill_flop_per_s``, as large devices are not filled; where no rate is
    specified, at ``prefill_flop_per_byte`` of bandwidth. Flash attention reaches ``flash_prefill_share`` of that in
    prefill and ``flash_decode_share`` in decoding. Without it each head reads its keys and values for itself:
    ``plain_decode_share`` is what that reaches of bandwidth. ``vendors``: those whose own backend this is.
    """

    vendors: tuple[str, ...]
    share: float
    layer_s: float
    prefill_flop_per_s: float
    prefill_flop_per_byte: float
    flash_prefill_share: float
    flash_decode_share: float
    plain_decode_share: float
    factors: tuple[DeviceFactors, ...]
    bytes_per_flop: float = inf
    k_bytes_per_flop: float = inf


class DeviceConstants(Struct, frozen=True):
    """``types``: factors on the share by weight type, 1 where a type isn't there. ``experts``: that of routed experts.
    ``expert_layers``: a layer with experts takes so many times its backend's ``layer_s`` more; ``split_s``: what
    one whose experts stay on the CPU takes besides. The others as in ``planner.rates`` and the file."""

    unknown_link_bytes_per_s: float
    link_share: float
    peak_share: float
    expert_share: float
    expert_layers: float
    split_s: float
    batch_tokens: float
    activation_bytes: float
    attention_prefill_share: float
    types: Mapping[str, float]
    backends: Mapping[str, Backend]


def read_devices(table: Table) -> DeviceConstants:
    """The tables out of the file. Raises FieldError."""
    types: dict[str, float] = {}
    for row in table.tables("types"):
        types |= dict.fromkeys(row.texts("these"), row.number("share"))
        row.end()
    backends = {}
    for name, row in table.table("backend").named_tables().items():
        factors = row.structs("kind", DeviceFactors)
        backends[name] = row.fill(Backend, factors=factors)
    return table.fill(DeviceConstants, types=types, backends=backends)
