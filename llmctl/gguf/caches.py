"""Which layers of a header keep keys and values, and which keep them compressed.

Sources: ``create_memory`` in src/llama-model.cpp and the constructors in src/llama-kv-cache.cpp and -dsv4.cpp of
llama.cpp at 0c1e570, 2026-10.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.gguf.layers import DIFFUSION, ENCODERS, FEED_FORWARD_LAYERS, KV_LAYERS, RECURRENCES, Figures, Layers

COMPRESSED = frozenset({"deepseek4"})
INDEXED_RATIO = 4  # cells of so many tokens are picked by an indexer, which has keys and a compressor of its own
OVERLAP = 2  # windows of INDEXED_RATIO tokens overlap: twice the rows, twice as wide
ROWS_KEPT = 2  # what is compressed, and its scores


def caching_layers(
    figures: Figures, n_head_kv: Sequence[int], n_ff: Sequence[int], recurrent: Sequence[bool]
) -> list[bool]:
    """For each layer, whether it has a cache. A layer without key heads has one too where llama.cpp makes no
    difference: its keys take nothing, its values as much as any layer's without flash attention."""
    n_layer = len(n_head_kv)
    recurrence = RECURRENCES.get(figures.architecture)
    if figures.architecture in ENCODERS | DIFFUSION or (recurrence and recurrence.layers is Layers.ALL):
        return [False] * n_layer
    beside = recurrence is not None and recurrence.layers is Layers.BESIDE
    n_kv = KV_LAYERS.get(figures.architecture, n_layer - figures.number("attention.shared_kv_layers", 0))
    only_feeds = [width > 0 and figures.architecture in FEED_FORWARD_LAYERS for width in n_ff]
    return [layer < n_kv and (beside or not recurrent[layer]) and not only_feeds[layer] for layer in range(n_layer)]


def compression(figures: Figures, n_layer: int) -> Sequence[int]:
    """For each layer, how many tokens a cell of its compressed cache holds; 0 where it has none."""
    if figures.architecture not in COMPRESSED:
        return (0,) * n_layer
    ratios = figures.per_layer("attention.compress_ratios", n_layer, (0,) * n_layer)
    return [ratio if ratio > 1 else 0 for ratio in ratios]


def compressed_width(figures: Figures, ratio: int) -> int:
    """Elements of one compressed cell: a key, and the indexer's."""
    if not ratio:
        return 0
    key = figures.number("attention.key_length", 0)
    return key + (figures.number("attention.indexer.key_length", 0) if ratio == INDEXED_RATIO else 0)


def compressor_elements(figures: Figures, ratio: int) -> int:
    """Elements of state that a compressing layer keeps for one sequence: those of tokens not yet compressed."""
    if ratio == INDEXED_RATIO:
        width = figures.number("attention.key_length", 0) + figures.number("attention.indexer.key_length", 0)
        return ROWS_KEPT * OVERLAP * ratio * OVERLAP * width
    return ROWS_KEPT * ratio * figures.number("attention.key_length", 0) if ratio else 0
