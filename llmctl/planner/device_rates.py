"""A device's rates, from its bandwidth and its backend's constants."""

from __future__ import annotations

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.rates import UNKNOWN, Rates


def device_rates(backend: str | None, bandwidth: float | None, constants: SpeedConstants) -> Rates:
    """A device's, from its bandwidth. A backend without constants of its own is taken for the slowest there is."""
    slowest = min(constants.backends.values(), key=lambda one: one.share)
    known = constants.backends.get((backend or "").lower(), slowest)
    flow = bandwidth or constants.unknown_device_bytes_per_s
    stream, flop = known.share * flow, known.prefill_flop_per_byte * flow
    return Rates(
        {None: stream},
        {None: flop},
        kv_bytes_per_s=stream,
        attention_decode_flop_per_s=flop * constants.attention_decode_share,
        attention_prefill_flop_per_s=flop * constants.attention_prefill_share,
        layer_s=known.layer_s,
        basis="device" if bandwidth else UNKNOWN,
    )
