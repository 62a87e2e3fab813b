"""Layers for drafting, which are loaded in part or not at all, and looped layers, which are run several times.

Sources: ``load_arch_hparams`` and ``load_arch_tensors`` in src/models/<architecture>.cpp of llama.cpp 0c1e570, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmctl.gguf.layers import Figures
from llmctl.types.header import Header

DRAFT_PROBE = "blk.{layer}.nextn.eh_proj.weight"

_FEED_FORWARD = r"\.ffn_(?!norm)"  # whatever layers for drafting are skipped, all but their norms
_PREDICTION = r"\.nextn\.(embed_tokens|shared_head_head|shared_head_norm)\."
LOADED_OF_DRAFT: Mapping[str, re.Pattern[str]] = {
    "cohere2moe": re.compile(_PREDICTION),
    "deepseek32": re.compile(r"\.exp_probs_b"),
    "glm-dsa": re.compile(r"\.exp_probs_b"),
    "hy_v3": re.compile(rf"{_FEED_FORWARD}|\.exp_probs_b|{_PREDICTION}"),
    "step35": re.compile(rf"{_FEED_FORWARD}|\.exp_probs_b|\.attn_(gate|q_norm|k_norm)\.|{_PREDICTION}"),
}
"""Tensors of layers for drafting that are created without TENSOR_SKIP, so loaded even if nothing is drafted."""


def draft_layers(header: Header, figures: Figures) -> int:
    """Layers that only draft tokens, behind those that are run. deepseek4 heeds the key only where their tensors are
    there: without them its last layers are run."""
    n_draft = figures.number("nextn_predict_layers", 0)
    if n_draft and header.architecture == "deepseek4":
        probe = DRAFT_PROBE.format(layer=figures.number("block_count", 0) - n_draft)
        return n_draft if any(tensor.name == probe for tensor in header.tensors) else 0
    return n_draft


def is_loaded(figures: Figures, tensor: str) -> bool:
    """Whether a tensor of a layer for drafting is loaded although nothing is drafted."""
    pattern = LOADED_OF_DRAFT.get(figures.architecture)
    return pattern is not None and pattern.search(tensor) is not None


def loop_count(figures: Figures) -> int:
    """How often all layers are run one after the other, each time with a cache of its own (src/models/nanbeige.cpp)."""
    return max(figures.number("num_loops", 1), 1) if figures.architecture == "nanbeige" else 1


def weighted_layers(figures: Figures, n_layer: int) -> int:
    """Layers with weights of their own, of ``n_layer`` that the header counts. hrm_text counts every pass through its
    two stacks (src/models/hrm-text.cpp)."""
    stack = figures.number("hrm.layers_per_stack", 0)
    return min(2 * stack, n_layer) if stack else n_layer
