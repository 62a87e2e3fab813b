"""The size of the compute buffer, which llama.cpp reserves for the tensors between a graph's inputs and its result.

One graph serves every micro-batch, and tensors whose lives don't overlap share their place, so the buffer is as large
as the graph's largest moment. There are three that can be it: the logits of every token; the attention scores of every
head, where flash attention does without them the latent ones' queries or nothing; the feed-forward network, or all used
experts. Tensors are counted as rows of 32-bit floats, one for each token of a micro-batch; functions called ``*_rows``
return the elements for one token.

llama.cpp places tensors by best fit (ggml/src/ggml-alloc.c), so what else is alive at a moment depends on the order of
the graph's nodes, which each architecture has its own of: ``graphs.py``. Rows and table were found by asking llama.cpp
0c1e570 (2026-10, CPU) for the buffers of 130 models of 100 architectures in their real shapes, at 512 to 131,072 tokens
with 128, 512 and 2,048 at once (``tests/bench/memory_against_engine.py``).

Inputs lie first in memory, masks among them. Whether the logits find the place of a mask free depends on every size,
within one architecture too. A mask that may stay is counted: at 131,072 tokens that is up to a third too much, at
262,144 up to two thirds. The exact size is known to the allocator only, which the dry run asks.
"""

from __future__ import annotations

from msgspec import Struct

from llmctl.gguf.layers import ENCODERS, RECURRENCES, Layers
from llmctl.planner.graphs import MaskStays, graph_of
from llmctl.types.model import Shape
from llmctl.types.plan import F16, Configuration

FLOAT_BYTES = 4
CELL_PAD = 256  # llama.cpp rounds a cache's cells up to this (llama_kv_cache, src/llama-model.cpp)
INDEX_ROWS = 2  # where a value goes in a cache that keeps them transposed: a 64-bit index for each of its elements


class Copied(Struct, frozen=True):
    """Weights that lie elsewhere and are copied into the buffer: ``bytes`` of the most at a time.

    A mask is copied where it is first needed, into the place behind what was copied before it in the same part of the
    graph (ggml_backend_sched_split_graph), and stays until the last layer. What is larger than the hole of
    ``before_mask_bytes`` in front of it comes behind it: the scores, and the next weights, if some are copied
    ``after_mask``, since rows lie in the hole by then. 0 is: no weights are copied before. ``from_first``: the first
    layer has some of them.
    """

    bytes: int = 0
    before_mask_bytes: int = 0
    after_mask: bool = False
    from_first: bool = False


NOTHING_COPIED = Copied()


def padded_cells(context: int) -> int:
    return -(-context // CELL_PAD) * CELL_PAD


def compute_bytes(
    shape: Shape, configuration: Configuration, *, head: bool = True, copied: Copied = NOTHING_COPIED
) -> int:
    """The compute buffer of a device that computes some layers, with ``head`` the logits too; the buffer for the output
    is not in it. What is ``copied`` lies beside a layer's feed-forward network; the logits come after it."""
    feed_forward, scores = _layer_rows(shape, configuration)
    logits = head and shape.architecture not in ENCODERS and not graph_of(shape).embeds
    last = _logit_rows(shape, configuration) if logits else 0
    row_bytes = _batch(configuration) * FLOAT_BYTES
    attention = row_bytes * scores
    hole, again = copied.before_mask_bytes, 0
    if hole and not (copied.from_first and _small_masks(shape, configuration)):
        attention += hole if attention > hole else 0
        again = row_bytes * _routed_rows(shape, configuration) + hole + copied.bytes if copied.after_mask else 0
    return max(attention, row_bytes * last, row_bytes * feed_forward + copied.bytes, again)


def touched_bytes(shape: Shape, configuration: Configuration) -> int:
    """The part of the buffers that prefill writes to: logits are made for the last token of a prompt only, and where
    texts are pooled all of the output's buffer is filled with zeros."""
    pooled = grown_output_bytes(shape, configuration) if shape.pools else 0
    return pooled + _batch(configuration) * FLOAT_BYTES * max(_layer_rows(shape, configuration))


def output_bytes(shape: Shape, configuration: Configuration) -> int:
    """The buffer of the logits that callers read: one row for each sequence (llama_context::output_reserve)."""
    return (shape.n_vocab or 0) * FLOAT_BYTES * configuration.sequences


def grown_output_bytes(shape: Shape, configuration: Configuration) -> int:
    """The same when a whole batch has been read. Where texts are pooled it has grown to a row and a vector for each
    token, although nobody reads them: to a gigabyte for a thousand tokens of a vocabulary of 250,000."""
    if shape.pools:
        return ((shape.n_vocab or 0) + shape.n_embd) * FLOAT_BYTES * _batch(configuration)
    return output_bytes(shape, configuration)


def input_bytes(shape: Shape, configuration: Configuration) -> int:
    """The graph's inputs, which the CPU keeps where devices compute everything: masks and places, and the embeddings
    twice, as looked up and as they could be passed in (build_inp_embd in src/llama-graph.cpp)."""
    return given_bytes(shape, configuration) + 2 * embedding_bytes(shape, configuration)


def given_bytes(shape: Shape, configuration: Configuration) -> int:
    """Masks, places in the cache, and per-layer embeddings."""
    rows = _mask_rows(shape, configuration) + _index_rows(shape, configuration)
    return _batch(configuration) * FLOAT_BYTES * (rows + shape.per_layer_width)


def embedding_bytes(shape: Shape, configuration: Configuration) -> int:
    """A row of the embedding's width for each token of a micro-batch, which is what goes from one layer to the next."""
    return _batch(configuration) * FLOAT_BYTES * (shape.n_embd + shape.working.streams)


def cached_cells(shape: Shape, configuration: Configuration) -> tuple[int, int]:
    """Cells that layers without and with a window attend to: of the cache, or of the batch if there is no cache."""
    if shape.kv_width + shape.kv_window_width == 0 or graph_of(shape).embeds:
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


def compressed_cells(configuration: Configuration, tokens: int) -> int:
    """Cells of a cache that holds ``tokens`` in each; 0 without compression (``tokens`` 0). Source: dsv4_comp_size."""
    return padded_cells(-(-padded_cells(configuration.context) // tokens)) if tokens else 0


def _logit_rows(shape: Shape, configuration: Configuration) -> int:
    """The logits beside the last norm and what it is made of. A quantized cache has one row more, where the mask leaves
    room for it."""
    graph, mask = graph_of(shape), _mask_rows(shape, configuration)
    if graph.clamped_logits:
        return 2 * (shape.n_vocab or 0) + graph.clamped_logits + mask
    rows = (shape.n_vocab or 0) + (2 + graph.beside) * shape.n_embd + _waiting_rows(shape)
    match graph.mask_stays:
        case MaskStays.ALWAYS:
            return rows + mask + _index_rows(shape, configuration)
        case MaskStays.IF_SMALL:
            return rows + min(mask, shape.n_embd)
    if configuration.kv_type != F16 and mask >= shape.n_embd:
        return rows + shape.n_embd
    return rows + _displaced_rows(shape, configuration, mask)


def _displaced_rows(shape: Shape, configuration: Configuration, mask: int) -> int:
    """Two masks of floats leave a hole that the last layer's feed-forward network fits into: the logits come after."""
    last_layer = 3 * (shape.n_ff or 0) + shape.n_embd
    return last_layer if shape.window and not flash(shape, configuration) and mask >= last_layer else 0


def _layer_rows(shape: Shape, configuration: Configuration) -> tuple[int, int]:
    """Rows of the moment of the feed-forward network or of a scan, and of the attention's."""
    common = _mask_rows(shape, configuration) + shape.per_layer_width + _stay_rows(shape, configuration)
    feeding = common + max(_feed_forward_rows(shape), _scan_rows(shape, configuration))
    return feeding, _attention_rows(shape, configuration, common)


def _stay_rows(shape: Shape, configuration: Configuration) -> int:
    """Rows that are alive during every layer: streams of residuals, and those of sparse layers still to come."""
    chosen = min(shape.working.top_k, padded_cells(configuration.context))
    return shape.working.streams + shape.working.sparse_layers * chosen


def _expert_rows(shape: Shape) -> int:
    """Rows of the used experts' outputs, until they are summed."""
    return shape.n_expert_used * (shape.working.expert_width or shape.n_embd)


def _waiting_rows(shape: Shape) -> int:
    """Rows of the experts' outputs where they wait for the shared expert's."""
    return _expert_rows(shape) if graph_of(shape).experts_stay and shape.working.shared_experts else 0


def _feed_forward_rows(shape: Shape) -> int:
    graph, waiting = graph_of(shape), _waiting_rows(shape)
    parts = 3 if graph.gated else 1
    n_ff_expert = shape.n_ff_expert or shape.n_ff or 0
    n_ff = max(shape.n_ff or 0, shape.n_expert_used * n_ff_expert)
    dense = waiting + parts * n_ff + graph.widths * shape.n_embd
    fits = graph.gated and shape.n_embd <= 2 * n_ff_expert  # where gate and up were: build_moe_ffn, src/llama-graph.cpp
    if not shape.n_expert_used or fits:
        return dense
    experts = _expert_rows(shape) + parts * shape.n_expert_used * n_ff_expert + (graph.widths + 1) * shape.n_embd
    return max(dense, experts)


def _small_masks(shape: Shape, configuration: Configuration) -> bool:
    """Whether masks of a model with windows find room in front of weights copied from the first layer on."""
    return shape.window is not None and _mask_rows(shape, configuration) <= shape.n_embd


def _routed_rows(shape: Shape, configuration: Configuration) -> int:
    """The layer's input and its norm, which experts were picked, and what the used ones made of it."""
    used = shape.n_expert_used * (shape.n_ff_expert or shape.n_ff or 0)
    return _mask_rows(shape, configuration) + 2 * (shape.n_embd + shape.n_expert) + used


def _scan_rows(shape: Shape, configuration: Configuration) -> int:
    """A recurrent layer's, with the state that it hands out."""
    if not shape.working.mixer:
        return 0
    return shape.working.mixer + shape.working.mixer_state // _batch(configuration) + 3 * shape.n_embd


def _attention_rows(shape: Shape, configuration: Configuration, common: int) -> int:
    """The attention's moment; ``common`` rows are there in any layer."""
    if shape.latent and shape.working.sparse_layers:
        return _sparse_rows(shape, configuration)
    if any(layer.compression for layer in shape.layers):
        return _compressed_rows(shape, configuration)
    common += _waiting_rows(shape)
    if flash(shape, configuration):
        return common + max(_latent_rows(shape), _block_rows(shape, configuration))
    graph, (cells, _) = graph_of(shape), cached_cells(shape, configuration)
    queries = 2 * shape.n_head * shape.key_length or 2 * shape.n_embd
    values = _index_rows(shape, configuration) or shape.value_width
    scores = _pairs(shape, configuration) + (cells // 2 if shape.latent else 0)
    if graph.bias:  # the bias, and both added up; with the bucket that each pair of tokens falls into
        scores = 3 * scores + 5 * cells // 2
    return common + scores + (3 + graph.beside) * shape.n_embd + queries + values


def _pairs(shape: Shape, configuration: Configuration) -> int:
    """Scores of all heads for one token, in the layer with the most."""
    cells, windowed = cached_cells(shape, configuration)
    return max((shape.n_head_full or shape.n_head) * cells, shape.n_head * min(windowed, cells))


def _latent_rows(shape: Shape) -> int:
    """Flash attention in latent space: each head's query and value are as wide as the latent ones, and all are there at
    once, with the layer's input and its norm (build_attn_mha in src/llama-graph.cpp)."""
    return shape.n_head * (shape.key_length + shape.value_length) + 2 * shape.n_embd if shape.latent else 0


def _block_rows(shape: Shape, configuration: Configuration) -> int:
    """Where blocks of tokens are picked: each indexing head's scores and the mask made of them, the mask as floats, and
    queries (the branch of prompts in src/models/minimax-m3.cpp)."""
    heads, (cells, _) = shape.working.block_heads, cached_cells(shape, configuration)
    if not heads:
        return 0
    return (2 * heads + 1) * cells + 2 * shape.n_head * shape.key_length + 4 * shape.n_embd


def _sparse_rows(shape: Shape, configuration: Configuration) -> int:
    """Latent attention to picked tokens: masks of two kinds, the indexer's scores and the mask made of them lie between
    the latent queries and values (build_attn for k_dsa in src/llama-graph.cpp)."""
    cells, windowed = cached_cells(shape, configuration)
    latent = shape.n_head * (shape.key_length + 2 * shape.value_length) + 4 * shape.n_embd
    masks = 2 * cells + windowed if flash(shape, configuration) else 4 * cells + windowed + _pairs(shape, configuration)
    return _stay_rows(shape, configuration) + latent + masks


def _compressed_rows(shape: Shape, configuration: Configuration) -> int:
    """Attention to a window and, before it, to cells that hold several tokens (src/models/deepseek4.cpp)."""
    context, windowed = padded_cells(configuration.context), windowed_cells(shape, configuration)
    rows = _stay_rows(shape, configuration) + 3 * shape.n_head * shape.key_length + 2 * shape.n_embd
    if flash(shape, configuration):
        return rows + 5 * context // 8
    cells = max(compressed_cells(configuration, layer.compression) for layer in shape.layers)
    return rows + context // 2 + shape.n_head * (cells + windowed)


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
    graph = graph_of(shape)
    return configuration.flash_attention and graph.flash and not graph.bias


def _batch(configuration: Configuration) -> int:
    return min(configuration.ubatch, padded_cells(configuration.context))
