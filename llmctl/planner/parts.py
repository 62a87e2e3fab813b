"""The share of a model that each device holds."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmctl.planner.memory import Stack
from llmctl.types.machine import Accelerator
from llmctl.types.model import Shape
from llmctl.types.plan import Configuration


class DeviceShare(Struct, frozen=True):
    """The shares of a model that one device holds, or the CPU (None): of its layers, of the bytes of its routed
    experts, and of all other bytes that are streamed."""

    accelerator: Accelerator | None
    layers: float
    dense: float
    experts: float


def parts(
    shape: Shape, model: Stack, configuration: Configuration, cuts: Sequence[tuple[Accelerator, int, int]]
) -> tuple[DeviceShare, ...]:
    """The CPU's, then each device's. ``cuts`` are devices with their first layer and the one after their last."""
    stay, experts = configuration.cpu_expert_layers, model.experts[-1]
    dense = max(1, model.weights[-1] - experts)
    on_devices = []
    for device, begin, end in cuts:
        inside = model.experts[end] - model.experts[begin] if experts else 0
        moved = max(0, model.experts[end] - model.experts[max(begin, stay)]) if experts else 0
        on_devices.append(
            DeviceShare(
                device,
                (min(end, shape.n_layer) - min(begin, shape.n_layer)) / shape.n_layer,
                (model.weights[end] - model.weights[begin] - inside) / dense,
                moved / experts if experts else 0.0,
            )
        )
    on_cpu = DeviceShare(
        None,
        1 - sum(part.layers for part in on_devices),
        1 - sum(part.dense for part in on_devices),
        1 - sum(part.experts for part in on_devices) if experts else 0.0,
    )
    return (on_cpu, *on_devices)
