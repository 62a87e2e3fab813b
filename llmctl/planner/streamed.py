"""Bytes read and operations computed for one token: weights, the cache so far, and attention over it."""

from __future__ import annotations

from collections.abc import Mapping

from llmctl.gguf.layers import FEED_FORWARD_LAYERS
from llmctl.planner.memory import element_bytes, head_bytes
from llmctl.types.model import Shape, Weights

HYBRID_ATTENTION = 0.25  # three of four layers are recurrent in Qwen3.5 and its successors, more in other hybrids


def active_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """Bytes that one token streams, by weight type: all of them, of routed experts the used share; those in looped
    layers once for each pass."""
    used, experts = active_expert_bytes(weights, shape), _expert_bytes(weights)
    once = {name: size - experts.get(name, 0) + used.get(name, 0) for name, size in weights.type_bytes.items()}
    if shape.passes == 1:
        return once
    streamed = sum(weights.type_bytes.values())
    again = (shape.passes - 1) * (1 - head_bytes(shape, weights) / streamed if streamed else 0)
    return {name: size * (1 + again) for name, size in once.items()}


def active_expert_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """The part of it that lies in routed experts."""
    share = shape.n_expert_used / shape.n_expert if shape.n_expert else 1.0
    return {name: size * share for name, size in _expert_bytes(weights).items()}


def _expert_bytes(weights: Weights) -> Mapping[str, float]:
    if weights.expert_type_bytes or not weights.expert_bytes:
        return weights.expert_type_bytes
    total = sum(weights.type_bytes.values())
    return {name: size * weights.expert_bytes / total for name, size in weights.type_bytes.items()}


def cell_bytes(shape: Shape, kv_type: str) -> tuple[float, float]:
    """Bytes that a token reads of the cache for each token in it: in layers that see all of it, and in those with a
    window. Recurrent state is not in it: a token reads and writes ``2 x shape.state_bytes``."""
    return element_bytes(kv_type, shape.kv_width), element_bytes(kv_type, shape.kv_window_width)


def cell_flop(shape: Shape) -> tuple[float, float]:
    """Operations of a token's attention for each token that it attends to, in both kinds of layers: two for each
    element of every head's query and key, and two for each of a weight and a value."""
    head = shape.key_length + shape.value_length
    flop = 2.0 * shape.n_head * head if head else 4.0 * shape.n_embd
    if shape.layers:
        full = sum(1 for layer in shape.layers if layer.kv_width and not layer.windowed)
        windowed = sum(1 for layer in shape.layers if layer.kv_width and layer.windowed)
        return flop * full, flop * windowed
    attending = shape.n_layer * (HYBRID_ATTENTION if shape.state_bytes else 1.0)
    cached = shape.kv_width + shape.kv_window_width
    share = shape.kv_window_width / cached if cached else 0.0
    return flop * attending * (1 - share), flop * attending * share


def fixed_layers(shape: Shape) -> float:
    """Layers that a fixed time is taken for: of architectures whose layers either mix tokens or feed forward, two make
    one of the others."""
    return shape.n_layer / 2 if shape.architecture in FEED_FORWARD_LAYERS else shape.n_layer
