"""The compute buffer: what llama.cpp reserves for the tensors between a graph's inputs and its result.

One graph serves every micro-batch, and tensors whose lives don't overlap share their place, so the buffer is as large
as the graph's largest moment. There are three that can be it: the logits of every token; the attention scores of every
head, where flash attention does without them the latent ones' queries or nothing; the feed-forward network, or all used
experts. Rows are 32-bit floats, one for each token of a micro-batch. Below, a row is told by its elements.

llama.cpp places tensors by best fit (ggml/src/ggml-alloc.c), so what else is alive at a moment depends on the order of
the graph's nodes, which each architecture has its own of: ``GRAPHS``. Rows and table were found by asking llama.cpp
0c1e570 (2026-10, CPU) for the buffers of 130 models of 100 architectures in their real shapes, at 512 to 131,072 tokens
with 128, 512 and 2,048 at once (``tests/bench/memory_against_engine.py``).

Inputs lie first in memory, masks among them, and best fit goes by steps: which rows come to lie where a mask was, and
with them whether the logits find it free, changes with every size, within one architecture too. Where a mask may stay
it is counted: at 131,072 tokens that is up to a third too much, at 262,144 up to two thirds. Only the allocator
itself knows better, which the dry run asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from llmctl.gguf.layers import ENCODERS, RECURRENCES, Layers
from llmctl.types.model import Shape
from llmctl.types.plan import F16, Configuration

FLOAT_BYTES = 4
CELL_PAD = 256  # llama.cpp rounds a cache's cells up to this (llama_kv_cache, src/llama-model.cpp)
INDEX_ROWS = 2  # where a value goes in a cache that keeps them transposed: a 64-bit index for each of its elements


class MaskStays(StrEnum):
    """Whether the place of the mask is there for the logits once all layers are done. ``IF_SMALL``: a mask that is
    smaller than a row of the embedding's width has its place taken by nothing else."""

    NEVER = "never"
    IF_SMALL = "if_small"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Graph:
    """What an architecture's graph has alive beside the least.

    ``beside`` rows of the embedding's width stay beside the logits and the scores, more than all graphs have there.
    With ``experts_stay`` the outputs of the used experts wait for the shared expert's. Not ``gated``: the feed-forward
    network has one row, not three; ``widths`` rows of the embedding's width are beside it. With ``two_masks`` a model
    that keeps no cache has one for its windows, too. ``flash``: whether llama.cpp has flash attention for it.
    """

    beside: int = 2
    mask_stays: MaskStays = MaskStays.ALWAYS
    experts_stay: bool = False
    gated: bool = True
    widths: int = 4
    two_masks: bool = False
    flash: bool = True


LEAN = Graph(0, MaskStays.NEVER)
GRAPHS: Mapping[str, Graph] = {
    **dict.fromkeys(
        (
            *("arcee", "baichuan", "chatglm", "cohere2", "command-r", "dbrx", "dream", "ernie4_5", "exaone", "exaone4"),
            *("gemma", "gemma2", "gemma3", "glm4", "granite", "granitemoe", "grovemoe", "hunyuan-dense", "internlm2"),
            *("llada", "llada-moe", "llama", "mimo2", "minicpm", "minimax-m2", "mistral3", "olmo2", "olmoe"),
            *("pangu-embedded", "phimoe", "plamo2", "qwen2", "qwen2vl", "qwen3", "qwen3moe", "rnd1", "rwkv6", "rwkv7"),
            *("seed_oss", "smallthinker", "smollm3", "xverse"),
        ),
        LEAN,
    ),
    **dict.fromkeys(("apertus", "falcon", "gptneox", "nomic-bert-moe", "phi2"), Graph(0, MaskStays.NEVER, gated=False)),
    **dict.fromkeys(
        ("bitnet", "mamba", "mamba2", "minicpm3", "olmo", "orion", "qwen", "stablelm"), Graph(1, MaskStays.NEVER)
    ),
    **dict.fromkeys(
        ("bloom", "gpt2", "mpt", "nemotron", "starcoder", "starcoder2"), Graph(1, MaskStays.NEVER, gated=False)
    ),
    **dict.fromkeys(("falcon-h1", "gemma3n", "gpt-oss", "lfm2", "lfm2moe", "nemotron_h"), Graph(1, MaskStays.IF_SMALL)),
    **dict.fromkeys(
        (
            *("bailingmoe2", "exaone-moe", "glm4moe", "granitehybrid", "jamba", "laguna", "qwen35moe", "qwen3next"),
            *("step35",),
        ),
        Graph(2, MaskStays.IF_SMALL),
    ),
    **dict.fromkeys(("llama4", "nemotron_h_moe"), Graph(3, MaskStays.IF_SMALL)),
    **dict.fromkeys(
        ("afmoe", "bailingmoe", "deepseek", "deepseek2", "ernie4_5-moe", "hunyuan-moe", "mistral4", "qwen2moe"),
        Graph(2, MaskStays.IF_SMALL, experts_stay=True),
    ),
    "bert": Graph(0, MaskStays.NEVER, gated=False, widths=3),
    "gemma-embedding": Graph(0, widths=3, two_masks=True),
    **dict.fromkeys(("gemma4", "qwen35"), Graph(1)),
    "grok": Graph(flash=False),
    "jina-bert-v2": Graph(1, widths=3),
    "modern-bert": Graph(widths=3, two_masks=True),
    "nomic-bert": Graph(1, widths=2),
    "openelm": Graph(1, MaskStays.IF_SMALL),
    "phi3": Graph(0),
    "qwen3vl": Graph(3),
    "qwen3vlmoe": Graph(4, MaskStays.NEVER),
}
"""Architectures that are not here have two rows beside and a mask that stays, which is more than most do."""


def padded_cells(context: int) -> int:
    return -(-context // CELL_PAD) * CELL_PAD


def graph_of(shape: Shape) -> Graph:
    """Granite's hybrids have one name for those with experts and those without."""
    if shape.architecture == "granitehybrid" and not shape.n_expert:
        return LEAN
    return GRAPHS.get(shape.architecture, Graph())


def compute_bytes(shape: Shape, configuration: Configuration, *, head: bool = True, copied_bytes: int = 0) -> int:
    """The compute buffer of a device that computes some layers, with ``head`` the logits too; the buffer for the output
    is not in it. ``copied_bytes`` of weights that lie elsewhere are copied into it: their place is not used again for
    the logits, while the attention scores, which come before, find it free."""
    feed_forward, scores = _layer_rows(shape, configuration)
    last = max(feed_forward, _logit_rows(shape, configuration) if head and shape.architecture not in ENCODERS else 0)
    row_bytes = _batch(configuration) * FLOAT_BYTES
    return max(row_bytes * scores, row_bytes * last + copied_bytes)


def touched_bytes(shape: Shape, configuration: Configuration) -> int:
    """What prefill writes to of that: logits are made for the last token of a prompt only."""
    return _batch(configuration) * FLOAT_BYTES * max(_layer_rows(shape, configuration))


def output_bytes(shape: Shape, configuration: Configuration) -> int:
    """The logits that are handed out: one row for each sequence. Source: llama_context::output_reserve."""
    return (shape.n_vocab or 0) * FLOAT_BYTES * configuration.sequences


def input_bytes(shape: Shape, configuration: Configuration) -> int:
    """What a graph is given: embeddings, masks, places in the cache. The CPU keeps it where devices compute all."""
    rows = shape.n_embd + _mask_rows(shape, configuration) + _index_rows(shape, configuration)
    return _batch(configuration) * FLOAT_BYTES * (rows + shape.per_layer_width)


def cached_cells(shape: Shape, configuration: Configuration) -> tuple[int, int]:
    """Tokens that layers with and without a window see: of the cache, or of the batch alone where none is kept."""
    if shape.kv_width + shape.kv_window_width == 0:
        recurrence = RECURRENCES.get(shape.architecture)
        cells = 0 if recurrence and recurrence.layers is Layers.ALL else _batch(configuration)
        return cells, cells if shape.window or graph_of(shape).two_masks else 0
    return padded_cells(configuration.context), windowed_cells(shape, configuration)


def windowed_cells(shape: Shape, configuration: Configuration) -> int:
    """Cells of a sequence in layers with a window: it and one micro-batch. Source: llama_kv_cache_iswa."""
    cells = padded_cells(configuration.context)
    if not shape.window:
        return 0
    return cells if configuration.swa_full else min(cells, padded_cells(shape.window + _batch(configuration)))


def _logit_rows(shape: Shape, configuration: Configuration) -> int:
    """The logits beside the last norm and what it is made of. A quantized cache has one row more, where the mask leaves
    room for it."""
    graph, mask = graph_of(shape), _mask_rows(shape, configuration)
    beside = 2 + graph.beside + (shape.n_expert_used if graph.experts_stay else 0)
    rows = (shape.n_vocab or 0) + beside * shape.n_embd
    match graph.mask_stays:
        case MaskStays.ALWAYS:
            return rows + mask + _index_rows(shape, configuration)
        case MaskStays.IF_SMALL:
            return rows + min(mask, shape.n_embd)
    return rows + (shape.n_embd if configuration.kv_type != F16 and mask >= shape.n_embd else 0)


def _layer_rows(shape: Shape, configuration: Configuration) -> tuple[int, int]:
    """Rows of the feed-forward network's moment, and of the attention's: that of the scores, where there are some."""
    graph, mask = graph_of(shape), _mask_rows(shape, configuration)
    used = shape.n_expert_used * shape.n_embd  # what the used experts put out, until it is summed
    waiting = used if graph.experts_stay else 0
    common = mask + shape.per_layer_width + waiting
    n_ff_expert = shape.n_ff_expert or shape.n_ff or 0
    n_ff = max(shape.n_ff or 0, shape.n_expert_used * n_ff_expert)
    feed_forward = common + (3 if graph.gated else 1) * n_ff + graph.widths * shape.n_embd
    if shape.n_embd > 2 * n_ff_expert:  # else it fits where gate and up were (build_moe_ffn in src/llama-graph.cpp)
        experts = used - waiting + 3 * shape.n_expert_used * n_ff_expert + (graph.widths + 1) * shape.n_embd
        feed_forward = max(feed_forward, common + experts if used else 0)
    if flash(shape, configuration):
        return feed_forward, common + _latent_rows(shape)
    cells, _ = cached_cells(shape, configuration)
    scores = common + shape.n_head * cells + (cells // 2 if shape.latent else 0)
    queries = 2 * shape.n_head * shape.key_length or 2 * shape.n_embd
    values = _index_rows(shape, configuration) or shape.value_width
    return feed_forward, scores + (3 + graph.beside) * shape.n_embd + queries + values


def _latent_rows(shape: Shape) -> int:
    """Flash attention in latent space: each head's query and value are as wide as the latent ones, and all are there at
    once, with the layer's input and its norm (build_attn_mha in src/llama-graph.cpp)."""
    return shape.n_head * (shape.key_length + shape.value_length) + 2 * shape.n_embd if shape.latent else 0


def _mask_rows(shape: Shape, configuration: Configuration) -> int:
    """One element for each cell, twice if there are windows: halves (f16) with flash attention, else floats."""
    cells = sum(cached_cells(shape, configuration))
    return cells // 2 if flash(shape, configuration) else cells


def _index_rows(shape: Shape, configuration: Configuration) -> int:
    """Values are kept transposed without flash attention; see llama_kv_cache::build_input_v_idxs."""
    if flash(shape, configuration) or shape.kv_width + shape.kv_window_width == 0:
        return 0
    return INDEX_ROWS * shape.value_width


def flash(shape: Shape, configuration: Configuration) -> bool:
    """Whether there is flash attention: it was asked for, and llama.cpp has it for this architecture."""
    return configuration.flash_attention and graph_of(shape).flash


def _batch(configuration: Configuration) -> int:
    return min(configuration.ubatch, padded_cells(configuration.context))
