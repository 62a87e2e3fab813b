"""A device's rates, from its specified bandwidth and compute and its backend's constants."""

from __future__ import annotations

import re
from math import inf, prod, sqrt

from llmctl.catalogue.device_constants import Backend, DeviceConstants
from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.rates import UNKNOWN, DeviceRates
from llmctl.types.machine import Accelerator, AcceleratorKind
from llmctl.types.plan import Basis

LEAST_BATCH = 32  # tokens, from which on weights in the CPU's memory are copied to a device (ggml's op_offload)
BEND = 6  # how sharply the lower of two limits on streaming takes over from the other
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")
LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}  # by generation of PCI Express


def device_rates(device: Accelerator, flash_attention: bool, constants: SpeedConstants) -> DeviceRates:
    """The rates of a device: of matrix products as measured, if they were; all others from its figures. An
    unknown bandwidth is taken for the lowest in use."""
    of_devices = constants.devices
    backend = backend_of(device, of_devices)
    kinds = [kind for kind in backend.factors if kind.has(device)]
    flow = device.bandwidth_bytes_per_s or constants.unknown_device_bytes_per_s
    stream = backend.share * flow * prod(kind.decode for kind in kinds)
    shares = dict(of_devices.types)
    flop = backend.prefill_flop_per_byte * flow
    if specified := device.compute_flop_per_s:
        clocked = specified * prod(kind.bytes_per_flop for kind in kinds)
        k_stream = _lower(stream, clocked * backend.k_bytes_per_flop)
        stream = _lower(stream, clocked * backend.bytes_per_flop)
        if backend.k_bytes_per_flop < inf:
            shares |= dict.fromkeys(K_QUANTS, k_stream / stream)
        filled = sqrt(specified * backend.prefill_flop_per_s) * prod(kind.prefill for kind in kinds)
        flop = min(of_devices.peak_share * specified, filled)
    decode: dict[str | None, float] = {
        None: stream,
        **{name: stream * share for name, share in shares.items()},
    }
    prefill: dict[str | None, float] = {None: flop}
    rows = device.kernels.matrices if device.kernels is not None else ()
    measured = [row for row in rows if row.decode_bytes_per_s > 0 and row.prefill_flop_per_s > 0]
    if measured:
        decode = {None: min(row.decode_bytes_per_s for row in measured)}
        prefill = {None: min(row.prefill_flop_per_s for row in measured)}
        decode |= {row.weight_type: row.decode_bytes_per_s for row in measured}
        prefill |= {row.weight_type: row.prefill_flop_per_s for row in measured}
    attending = backend.flash_prefill_share if flash_attention else of_devices.attention_prefill_share
    # Without flash attention two operations per 16-bit element, which every head reads for itself: a byte for each.
    attending_once = flop * backend.flash_decode_share if flash_attention else flow * backend.plain_decode_share
    return DeviceRates(
        decode,
        prefill,
        kv_bytes_per_s=stream,
        attention_decode_flop_per_s=attending_once,
        attention_prefill_flop_per_s=flop * attending,
        layer_s=backend.layer_s,
        basis=Basis.CALIBRATED if measured else "device" if device.bandwidth_bytes_per_s else UNKNOWN,
        activation_s=of_devices.activation_bytes / flow,
        expert_decode=1 / of_devices.expert_share,
        expert_layer_s=of_devices.expert_layers * backend.layer_s,
        batch_tokens=of_devices.batch_tokens,
    )


def _lower(rate: float, other: float) -> float:
    """The lower of two limits, and somewhat less where they are close."""
    return float((rate**-BEND + other**-BEND) ** (-1 / BEND))


def backend_of(device: Accelerator, constants: DeviceConstants) -> Backend:
    """The constants of the device's backend, where that isn't known of its vendor's own; else of the slowest one."""
    backends = constants.backends.values()
    slowest = min(backends, key=lambda backend: backend.share)
    if device.engine_backend is None:
        return next((backend for backend in backends if device.vendor in backend.vendors), slowest)
    return constants.backends.get(device.engine_backend.lower(), slowest)


def link_bytes_per_s(device: Accelerator, constants: DeviceConstants) -> float:
    """Bytes per second of copying weights from the CPU's memory; infinite for a device that shares it."""
    if device.kind is not AcceleratorKind.DISCRETE:
        return float("inf")
    link = re.fullmatch(r"gen(\d) x(\d+)", device.pcie or "")
    if link is None or int(link[1]) not in LANE_BYTES_PER_S:
        return constants.unknown_link_bytes_per_s
    return constants.link_share * LANE_BYTES_PER_S[int(link[1])] * int(link[2])
