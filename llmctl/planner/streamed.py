"""What a token makes the machine read and compute: the model's weights, its cache so far, and attention over it."""

from __future__ import annotations

from collections.abc import Mapping

from llmctl.planner.memory import element_bytes, head_bytes
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import F16

HYBRID_ATTENTION = 0.25  # three of four layers are recurrent in Qwen3.5 and its successors, more in other hybrids


def active_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """Bytes that one token streams, by weight type: all of them, of routed experts the used share."""
    used, experts = active_expert_bytes(weights, shape), _expert_bytes(weights)
    return {name: size - experts.get(name, 0) + used.get(name, 0) for name, size in weights.type_bytes.items()}


def active_expert_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """The part of it that lies in routed experts."""
    share = shape.n_expert_used / shape.n_expert if shape.n_expert else 1.0
    return {name: size * share for name, size in _expert_bytes(weights).items()}


def _expert_bytes(weights: Weights) -> Mapping[str, float]:
    if weights.expert_type_bytes or not weights.expert_bytes:
        return weights.expert_type_bytes
    total = sum(weights.type_bytes.values())
    return {name: size * weights.expert_bytes / total for name, size in weights.type_bytes.items()}


def body_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """The same without the output head: what a prompt's tokens go through."""
    active = active_bytes(weights, shape)
    share = max(0.0, 1 - head_bytes(shape, weights) / max(1.0, sum(active.values())))
    return {name: size * share for name, size in active.items()}


def kv_read_bytes(shape: Shape, depth: int, kv_type: str = F16) -> int:
    """Cache and recurrent state that one token reads (the state is written back too)."""
    windowed = min(depth, shape.window or depth)
    return element_bytes(kv_type, shape.kv_width * depth + shape.kv_window_width * windowed) + 2 * shape.state_bytes


def attention_flop(shape: Shape, depth: int) -> float:
    """Operations of one token's attention over ``depth`` others: two for the scores and two for the sums, per layer,
    cached token and element of the queries, which are as wide as the embedding to a good approximation. Of a hybrid's
    layers a share attends, of windowed ones each to its window at most."""
    layers = shape.n_layer * (HYBRID_ATTENTION if shape.state_bytes else 1.0)
    cached = shape.kv_width + shape.kv_window_width
    windowed = shape.kv_window_width / cached if cached else 0.0
    seen = depth * (1 - windowed) + min(depth, shape.window or depth) * windowed
    return 4.0 * layers * shape.n_embd * seen
