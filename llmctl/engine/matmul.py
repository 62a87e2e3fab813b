"""Matrix products with weights, as a layer makes them: one vector in decoding, a batch of them in prefill; and the same
with routed experts."""

from __future__ import annotations

import ctypes
from typing import Any

from llmctl.engine.ggml import TYPES
from llmctl.engine.workbench import Place, Trial, Workbench

WIDTH = 2048  # elements in a row: the embedding of a model of one to three billion parameters
DECODE_ROWS = 8192
PREFILL_ROWS = 2048
PREFILL_COLUMNS = 512  # llama.cpp's default micro-batch
EXPERTS = 64  # of which each token uses EXPERTS_USED, as in OLMoE
EXPERTS_USED = 8
EXPERT_ROWS = 1024
CHOICES_BYTES = 1 << 16
TRY_OUT_BYTES = 16 << 20  # holds one matrix of DECODE_ROWS with 4 bits per weight


def repacked_layout(bench: Workbench, weight_type: str) -> Any | None:
    """The layout that llama.cpp prefers to the file's own, the first that supports the product
    (weight_buft_supported in src/llama-model-loader.cpp); None where there is none."""
    ggml = bench.ggml
    for layout in bench.special:
        context = bench.context()
        weights = ggml.new_tensor_2d(context, TYPES[weight_type], WIDTH, PREFILL_ROWS)
        vector = ggml.new_tensor_2d(context, TYPES["F32"], WIDTH, 1)
        place = Place(ggml, layout, ggml.backend_buft_get_alloc_size(layout, weights))
        product = ggml.mul_mat(context, place.put(weights), vector)
        supported = ggml.backend_dev_supports_op(ggml.cpu(), product)
        ggml.backend_buffer_free(place.buffer)
        ggml.free(context)
        if supported:
            return layout
    return None


def products(bench: Workbench, scratch: Place, weight_type: str, layout: Any, threads: int) -> tuple[Trial, Trial]:
    """Decoding: one vector through the whole working set, its amount in bytes of weights. Prefill: PREFILL_COLUMNS
    vectors through one matrix, in operations."""
    ggml, place = bench.ggml, bench.weights(layout)

    def decode(context: Any) -> tuple[list[Any], float]:
        vector = scratch.put(ggml.new_tensor_2d(context, TYPES["F32"], WIDTH, 1))
        results, filled, weight_bytes = list[Any](), 0, 0
        while True:
            weights = ggml.new_tensor_2d(context, TYPES[weight_type], WIDTH, DECODE_ROWS)
            filled += place.size_of(weights)
            if results and filled > bench.working_set_bytes:
                return results, weight_bytes
            results.append(scratch.put(ggml.mul_mat(context, place.put(weights), vector)))
            weight_bytes += ggml.nbytes(weights)

    def prefill(context: Any) -> tuple[list[Any], float]:
        batch = scratch.put(ggml.new_tensor_2d(context, TYPES["F32"], WIDTH, PREFILL_COLUMNS))
        weights = place.put(ggml.new_tensor_2d(context, TYPES[weight_type], WIDTH, PREFILL_ROWS))
        product = scratch.put(ggml.mul_mat(context, weights, batch))
        return [product], 2 * WIDTH * PREFILL_ROWS * PREFILL_COLUMNS

    return bench.trial(threads, decode), bench.trial(threads, prefill)


def routed_products(
    bench: Workbench, scratch: Place, weight_type: str, layout: Any, threads: int
) -> tuple[Trial, Trial]:
    """The same with EXPERTS_USED of EXPERTS matrices for each vector, all of them in turn."""
    ggml, place = bench.ggml, bench.weights(layout)
    choices = Place(ggml, bench.plain, CHOICES_BYTES)  # the only data that matter, so nothing else is put there

    def experts(context: Any) -> Any:
        return place.put(ggml.new_tensor_3d(context, TYPES[weight_type], WIDTH, EXPERT_ROWS, EXPERTS))

    def product(context: Any, matrices: Any, first: int, tokens: int) -> Any:
        batch = scratch.put(ggml.new_tensor_3d(context, TYPES["F32"], WIDTH, 1, tokens))
        chosen = choices.put(ggml.new_tensor_2d(context, TYPES["I32"], EXPERTS_USED, tokens))
        count = EXPERTS_USED * tokens
        numbers = (ctypes.c_int32 * count)(*((first + nth) % EXPERTS for nth in range(count)))
        ggml.backend_tensor_set(chosen, numbers, 0, ctypes.sizeof(numbers))
        return scratch.put(ggml.mul_mat_id(context, matrices, batch, chosen))

    def decode(context: Any) -> tuple[list[Any], float]:
        matrices = experts(context)
        turns = range(0, EXPERTS, EXPERTS_USED)
        return [product(context, matrices, first, 1) for first in turns], ggml.nbytes(matrices)

    def prefill(context: Any) -> tuple[list[Any], float]:
        whole = product(context, experts(context), 0, PREFILL_COLUMNS)
        return [whole], 2 * WIDTH * EXPERT_ROWS * EXPERTS_USED * PREFILL_COLUMNS

    return bench.trial(threads, decode), bench.trial(threads, prefill)


def try_out() -> None:
    """Computes two products, with one thread: a build for another processor does not survive that."""
    bench = Workbench(TRY_OUT_BYTES)
    scratch = bench.scratch(TRY_OUT_BYTES)
    for weight_type in ("Q4_0", "Q4_K"):
        decode, _ = products(bench, scratch, weight_type, repacked_layout(bench, weight_type) or bench.plain, 1)
        bench.run(decode)
