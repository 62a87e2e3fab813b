"""Which weights that stay on the CPU are copied to the first device for long prompts (op_offload in llama.cpp)."""

from __future__ import annotations

from itertools import pairwise

from llmctl.planner.compute import Copied
from llmctl.planner.memory import Stack
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Configuration

# A layer's matrices that stay on the CPU are copied to a device one after the other (ggml_backend_sched_split_graph):
# one of the three of its experts, or of its feed-forward network, where the largest isn't known.
COPIED_OF_LAYER = 3
EXPERT_BIASES = frozenset({"gpt-oss"})  # each matrix of experts has one, so a mask is not copied together with weights


def copied_weights(shape: Shape, weights: Weights, model: Stack, configuration: Configuration) -> Copied:
    """The most bytes that are copied at a time, and whether experts are copied before and after the masks."""
    stay, mask = configuration.cpu_expert_layers, _masked_from(shape)
    first = next((layer for layer, size in enumerate(weights.layer_expert_bytes) if size), 0)
    before = first < min(mask, stay) and shape.architecture not in EXPERT_BIASES
    largest = _copied_bytes(shape, weights, model, configuration)
    rest = model.largest_experts_bytes - largest  # another of the same layer: less, where gate and up are one matrix
    hole = min(largest, rest) if before and rest > 0 else 0
    return Copied(largest, hole, after_mask=stay > mask, from_first=first == 0)


def _copied_bytes(shape: Shape, weights: Weights, model: Stack, configuration: Configuration) -> int:
    """Some weights at a time, and so is the cache of a layer. Those of looped layers stay until the last pass is done
    with them."""
    on_cpu = shape.n_layer + shape.n_draft + 1 - configuration.gpu_layers
    if shape.passes > 1:
        return model.weights[on_cpu]
    copied = 0
    if configuration.cpu_expert_layers:
        copied = weights.expert_matrix_bytes or model.largest_experts_bytes // COPIED_OF_LAYER
    if on_cpu:
        dense = (model.largest_layer_bytes - model.largest_experts_bytes) // COPIED_OF_LAYER
        cache = max(after - before for before, after in pairwise(model.kv[: on_cpu + 1]))
        copied = max(copied, weights.matrix_bytes or dense, cache)
    return copied


def _masked_from(shape: Shape) -> int:
    """The layer by which there was one of each kind that has a mask: windows, and none. Where the layers are not known,
    models of several kinds may have such a one second."""
    if not shape.layers:
        return int(bool(shape.window or shape.state_bytes))
    kinds = [layer.windowed if layer.kv_width else None for layer in shape.layers]
    return max((kinds.index(kind) for kind in (False, True) if kind in kinds), default=0)
