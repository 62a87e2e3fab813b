"""Matrix products with weights, as a layer makes them: one vector in decoding, a batch of them in prefill; and the same
with routed experts."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

from llmctl.engine.measure.workbench import Buffer, Trial, Workbench
from llmctl.gguf.quant import TYPE_NUMBERS, WEIGHT_TYPE_BY_NAME

WIDTH = 2048  # elements in a row: the embedding of a model of one to three billion parameters
DECODE_ROWS = 8192
PASSES = 4  # that the working set is streamed in: long enough for their beginning not to count
BATCH_PASSES = 16  # the same with several vectors, which take longer
PREFILL_ROWS = 2048
PREFILL_COLUMNS = 512  # llama.cpp's default micro-batch
# The shorter pass for busy machines: its rates are within 3 % of the other's, Q6_K's 13 % lower (AMD EPYC, one thread).
SHORTER_COLUMNS = 128
EXPERTS = 64  # of which each token uses EXPERTS_USED, as in OLMoE
EXPERTS_USED = 8
EXPERT_ROWS = 512
CHOICES_BYTES = 1 << 16
TRY_OUT_BYTES = 16 << 20  # holds one matrix of DECODE_ROWS with 4 bits per weight


def supported(bench: Workbench, weight_type: str) -> bool:
    """Whether the bench's device has a kernel for such weights."""
    context = bench.context()
    weights = bench.ggml.new_tensor_2d(context, TYPE_NUMBERS[weight_type], WIDTH, PREFILL_ROWS)
    vector = bench.ggml.new_tensor_2d(context, TYPE_NUMBERS["F32"], WIDTH, 1)
    has_kernel: bool = bench.ggml.backend_dev_supports_op(bench.device, bench.ggml.mul_mat(context, weights, vector))
    bench.ggml.free(context)
    return has_kernel


def repacked_layout(bench: Workbench, weight_type: str) -> Any | None:
    """The layout that llama.cpp prefers to the file's own, the first that supports the product
    (weight_buft_supported in src/llama-model-loader.cpp); None where there is none."""
    ggml = bench.ggml
    for layout in bench.special:
        context = bench.context()
        weights = ggml.new_tensor_2d(context, TYPE_NUMBERS[weight_type], WIDTH, PREFILL_ROWS)
        vector = ggml.new_tensor_2d(context, TYPE_NUMBERS["F32"], WIDTH, 1)
        place = Buffer(ggml, layout, ggml.backend_buft_get_alloc_size(layout, weights))
        product = ggml.mul_mat(context, place.put(weights), vector)
        supported = ggml.backend_dev_supports_op(ggml.cpu(), product)
        ggml.backend_buffer_free(place.buffer)
        ggml.free(context)
        if supported:
            return layout
    return None


def products(
    bench: Workbench, scratch: Buffer, weight_type: str, layout: Any, threads: int, *, prefill_matrices: int = 1
) -> tuple[Trial, Trial]:
    """Decoding: one vector through matrices of DECODE_ROWS, one after the other through the whole working set; its
    amount is bytes of weights. Prefill: PREFILL_COLUMNS vectors through as many matrices as it takes to keep the device
    busy for longer than it takes to begin, in operations."""
    ggml, place = bench.ggml, bench.weights(layout)

    def batch(count: int, columns: int) -> Trial:
        context = bench.context()
        matrices = [ggml.new_tensor_2d(context, TYPE_NUMBERS[weight_type], WIDTH, PREFILL_ROWS) for _ in range(count)]
        results = [_product(bench, scratch, context, place.put(matrix), columns) for matrix in matrices]
        return bench.trial(threads, 2 * WIDTH * PREFILL_ROWS * columns * count, [(context, results)])

    prefill = batch(prefill_matrices, PREFILL_COLUMNS)
    prefill.shorter = batch(1, SHORTER_COLUMNS)
    return _streamed(bench, scratch, weight_type, layout, threads, 1, PASSES), prefill


def streamed_product(
    bench: Workbench, scratch: Buffer, weight_type: str, layout: Any, threads: int, columns: int
) -> Trial:
    """So many vectors at once through the working set, as ``products`` does with one, in shorter passes; its amount is
    operations."""
    trial = _streamed(bench, scratch, weight_type, layout, threads, columns, BATCH_PASSES)
    weights = trial.amount * 8 / WEIGHT_TYPE_BY_NAME[weight_type].bits_per_weight
    return replace(trial, amount=2 * weights * columns)


def _streamed(
    bench: Workbench, scratch: Buffer, weight_type: str, layout: Any, threads: int, columns: int, parts: int
) -> Trial:
    """Matrices of DECODE_ROWS one after the other, one of ``parts`` of the working set in each pass; its amount is
    bytes."""
    ggml, place = bench.ggml, bench.weights(layout)

    def matrix(context: Any) -> Any:
        return ggml.new_tensor_2d(context, TYPE_NUMBERS[weight_type], WIDTH, DECODE_ROWS)

    context = bench.context()
    matrix_bytes = ggml.nbytes(matrix(context))
    ggml.free(context)
    count = max(1, bench.working_set_bytes // (parts * matrix_bytes))  # matrices in a pass
    passes = []
    for _ in range(parts):
        context = bench.context()
        matrices = [place.put(matrix(context)) for _ in range(count)]
        passes.append((context, [_product(bench, scratch, context, weights, columns) for weights in matrices]))
    return bench.trial(threads, count * matrix_bytes, passes)


def _product(bench: Workbench, scratch: Buffer, context: Any, weights: Any, columns: int) -> Any:
    right = scratch.put(bench.ggml.new_tensor_2d(context, TYPE_NUMBERS["F32"], WIDTH, columns))
    return scratch.put(bench.ggml.mul_mat(context, weights, right))


def routed_products(
    bench: Workbench, scratch: Buffer, weight_type: str, layout: Any, threads: int
) -> tuple[Trial, Trial]:
    """``products`` with routed experts: EXPERTS_USED of EXPERTS matrices for each vector, different ones each pass."""
    ggml, place = bench.ggml, bench.weights(layout)
    choices = Buffer(ggml, bench.plain, CHOICES_BYTES)  # the only data that matter, so nothing else is put there

    def experts(context: Any) -> Any:
        return place.put(ggml.new_tensor_3d(context, TYPE_NUMBERS[weight_type], WIDTH, EXPERT_ROWS, EXPERTS))

    def product(context: Any, matrices: Any, first: int, tokens: int) -> Any:
        batch = scratch.put(ggml.new_tensor_3d(context, TYPE_NUMBERS["F32"], WIDTH, 1, tokens))
        chosen = choices.put(ggml.new_tensor_2d(context, TYPE_NUMBERS["I32"], EXPERTS_USED, tokens))
        count = EXPERTS_USED * tokens
        numbers = (ctypes.c_int32 * count)(*((first + nth) % EXPERTS for nth in range(count)))
        ggml.backend_tensor_set(chosen, numbers, 0, ctypes.sizeof(numbers))
        return scratch.put(ggml.mul_mat_id(context, matrices, batch, chosen))

    decode = []
    for first in range(0, EXPERTS, EXPERTS_USED):
        context = bench.context()
        decode.append((context, [product(context, experts(context), first, 1)]))
    context = bench.context()
    matrices = experts(context)
    prefill = product(context, matrices, 0, PREFILL_COLUMNS)
    operations = 2 * WIDTH * EXPERT_ROWS * EXPERTS_USED * PREFILL_COLUMNS
    return (
        bench.trial(threads, ggml.nbytes(matrices) * EXPERTS_USED / EXPERTS, decode),
        bench.trial(threads, operations, [(context, [prefill])]),
    )


def try_out() -> None:
    """Computes two products with one thread, to find out whether the build runs on this processor: one for another
    processor is killed by an illegal instruction."""
    bench = Workbench(TRY_OUT_BYTES)
    scratch = bench.scratch(TRY_OUT_BYTES)
    for weight_type in ("Q4_0", "Q4_K"):
        decode, _ = products(bench, scratch, weight_type, repacked_layout(bench, weight_type) or bench.plain, 1)
        bench.run(decode)
