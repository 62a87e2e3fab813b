"""Attention as llama.cpp's graphs compute it on the processor, with flash attention and without (build_attn_mha in
src/llama-graph.cpp): one token over a cache beyond the last level of the processor's own, and a batch of tokens."""

from __future__ import annotations

from typing import Any

from llmctl.engine.measure.workbench import Buffer, Trial, Workbench
from llmctl.gguf.quant import TYPE_NUMBERS

HEAD = 128  # elements of a key, and of a value
CELLS = 1024  # tokens in the cache
KV_HEADS = 4
PREFILL_TOKENS = 64
LAYERS = 16  # in one pass of decoding
SHARING = 4  # heads of queries to one of keys and values, in prefill
SCALE = HEAD**-0.5


def attending(
    bench: Workbench, scratch: Buffer, kv_type: str, *, flash: bool, threads: int, sharing: int, tokens: int
) -> Trial:
    """A trial of attention of ``tokens`` at once with ``sharing`` heads of queries to each of keys and values.

    The amount is, for one token, the bytes of cache that are read; for more, operations: two for each pair of
    elements of a query and a key, and of a weight and a value.
    """
    ggml, place, kind = bench.ggml, bench.weights(bench.plain), TYPE_NUMBERS[kv_type]
    heads = KV_HEADS * sharing

    def layer(context: Any) -> tuple[Any, int]:
        keys = place.put(ggml.new_tensor_3d(context, kind, HEAD, KV_HEADS, CELLS))
        queries = scratch.put(ggml.new_tensor_3d(context, TYPE_NUMBERS["F32"], HEAD, heads, tokens))
        mask = scratch.put(ggml.new_tensor_2d(context, TYPE_NUMBERS["F16"], CELLS, tokens))
        q, k = (ggml.permute(context, tensor, 0, 2, 1, 3) for tensor in (queries, keys))
        if flash:
            values = place.put(ggml.new_tensor_3d(context, kind, HEAD, KV_HEADS, CELLS))
            v = ggml.permute(context, values, 0, 2, 1, 3)
            result = scratch.put(ggml.flash_attn_ext(context, q, k, v, mask, SCALE, 0.0, 0.0))
        else:  # values are kept transposed
            values = place.put(ggml.new_tensor_3d(context, kind, CELLS, HEAD, KV_HEADS))
            scores = scratch.put(ggml.mul_mat(context, k, q))
            weights = scratch.put(ggml.soft_max_ext(context, scores, mask, SCALE, 0.0))
            result = scratch.put(ggml.mul_mat(context, values, weights))
        return result, ggml.nbytes(keys) + ggml.nbytes(values)

    context = bench.context()
    result, layer_bytes = layer(context)
    if tokens > 1:
        return bench.trial(threads, 4 * HEAD * heads * CELLS * tokens, [(context, [result])])
    pieces = []
    for _ in range(bench.working_set_bytes // (LAYERS * layer_bytes)):
        context = bench.context()
        pieces.append((context, [layer(context)[0] for _ in range(LAYERS)]))
    return bench.trial(threads, LAYERS * layer_bytes, pieces)
