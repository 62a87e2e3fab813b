"""Sizes of a layer's intermediate tensors beside attention and feed-forward network, out of a header."""

from __future__ import annotations

from llmctl.gguf.layers import INDEXED, RECURRENCES, Figures, Layers, StateKind
from llmctl.types.model import Working

DELTA_ROWS = 33  # in quarters of the width of all heads
COMPRESSED_INDEX = 4  # a cell of deepseek4's that holds so many tokens is picked by an indexer (DSV4_CSA_RATIO)


def working(figures: Figures, n_layer: int, n_embd: int, n_head: int, attending: int) -> Working:
    """``attending`` layers of ``n_layer`` see all tokens. Sources: the graphs in src/models/<architecture>.cpp."""
    latent = all(figures.number(f"attention.{name}_length_mla", 0) for name in ("key", "value"))
    mixer, mixer_state = _mixer(figures, n_embd, n_head)
    return Working(
        streams=_streams(figures, n_layer, n_embd),
        mixer=mixer,
        mixer_state=mixer_state,
        top_k=figures.number("attention.indexer.top_k", 0),
        sparse_layers=_sparse_layers(figures, attending, latent=latent),
        block_heads=_block_heads(figures),
        expert_width=figures.number("moe_latent_size", 0) or figures.number("expert_latent_length", 0),
        shared_experts=bool(
            figures.number("expert_shared_count", 0) or figures.number("expert_shared_feed_forward_length", 0)
        ),
    )


def _streams(figures: Figures, n_layer: int, n_embd: int) -> int:
    """Hyper connections carry so many residuals. Attention over earlier layers has the result of each block of layers,
    twice where one is added (attn_res in src/models/kimi-k3.cpp)."""
    block = figures.number("attn_res.block_size", 0)
    blocks = 2 * -(-n_layer // block) if block else 0
    return n_embd * (figures.number("hyper_connection.count", 0) + blocks)


def _mixer(figures: Figures, n_embd: int, n_head: int) -> tuple[int, int]:
    """A Mamba-2 layer: the projection, the convolution's input, two rows of the inner width (the scan's result and its
    gate), and the state that the scan hands out (build_mamba2_layer in src/models/mamba-base.cpp). Delta attention: a
    little more than eight rows of all its heads (asked of llama.cpp for kimi-k3 with 64 and 96 heads)."""
    rule = RECURRENCES.get(figures.architecture)
    if rule is not None and rule.state is StateKind.DELTA:
        return n_embd + DELTA_ROWS * n_head * figures.number("kda.head_dim", 0) // 4, 0
    groups = figures.number("ssm.group_count", 0)
    if rule is None or rule.state is not StateKind.SELECTIVE or rule.layers is Layers.PERIODIC or not groups:
        return 0, 0
    inner, size = figures.number("ssm.inner_size", 0), figures.number("ssm.state_size", 0)
    mixed = inner + 2 * groups * size
    return inner + mixed + figures.number("ssm.time_step_rank", 0) + mixed + 2 * inner, inner * size


def _sparse_layers(figures: Figures, attending: int, *, latent: bool) -> int:
    """Layers that each keep a row as long as ``top_k`` until they are done (``zeros`` in build_attn for k_dsa and
    dsv4, src/llama-graph.cpp)."""
    if figures.architecture in INDEXED and latent:
        return attending
    return (figures.array("attention.compress_ratios") or ()).count(COMPRESSED_INDEX)


def _block_heads(figures: Figures) -> int:
    """Heads of an indexer that scores whole blocks of tokens."""
    if not figures.number("attention.indexer.block_size", 0):
        return 0
    return figures.number("attention.indexer.head_count", 0)
