"""Times the engine's own matrix kernels. Runs as ``python -m llmctl.engine.matmul``; ``kernels`` asks it.

What is timed is ``ggml_mul_mat`` with the weights where llama.cpp itself would put them, so a type that this build
repacks for this processor is timed repacked. Weights are constant bytes: the value 0x11 is a small finite number in
every type, scales included, and the kernels' time does not depend on values.

A pass during which the kernel took the processor away from one of the threads says nothing: all the others wait for
that thread at the next barrier, and on two cores with one of them busy the same product takes ten to forty times as
long. Such passes are not counted, and a type that had no undisturbed pass is left out of the answer.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmctl import child
from llmctl.engine.ggml import TYPES, Ggml, InitParams

WIDTH = 2048  # elements in a row: the embedding of a model of one to three billion parameters
DECODE_ROWS = 8192
PREFILL_ROWS = 2048
PREFILL_COLUMNS = 512  # llama.cpp's default micro-batch
FEWEST_ROUNDS = 2
HARMLESS_PREEMPTIONS = 1  # a kernel thread that looks in takes microseconds
CONTEXT_BYTES = 1 << 20  # descriptions of tensors only, no data
SMALL_BYTES = 16 << 20  # holds one matrix of DECODE_ROWS with 4 bits per weight
WEIGHT_BYTE = 0x11
ACTIVATION_BYTE = 0x3F  # as float32: 0.747


@dataclass
class Timing:
    """One weight type. The best are the fastest undisturbed passes so far, in seconds."""

    weight_type: str
    repacked: bool
    decode: Any
    decode_bytes: int
    prefill: Any
    best_decode_s: float = math.inf
    best_prefill_s: float = math.inf

    @property
    def complete(self) -> bool:
        return math.isfinite(self.best_decode_s) and math.isfinite(self.best_prefill_s)


class Bench:
    """Graphs over shared buffers: one buffer of weights per layout, filled once, that every type reads as its own."""

    def __init__(self, threads: int, working_set_bytes: int) -> None:
        self.ggml = Ggml()
        self.backend = self.ggml.cpu_backend(threads)
        self.size_bytes = working_set_bytes
        self._weights: dict[Any, Any] = {}
        plain = self.ggml.weight_buffer_types()[-1]
        context = self._context()
        largest = WIDTH * PREFILL_COLUMNS * 4, PREFILL_ROWS * PREFILL_COLUMNS * 4
        self._activations = self._filled(plain, sum(largest), ACTIVATION_BYTE)
        base = self.ggml.backend_buffer_get_base(self._activations)
        self._output = base + largest[0]
        self._vector, self._matrix = (
            self.ggml.new_tensor_2d(context, TYPES["F32"], WIDTH, columns) for columns in (1, PREFILL_COLUMNS)
        )
        for tensor in (self._vector, self._matrix):
            self.ggml.backend_tensor_alloc(self._activations, tensor, base)

    def timing(self, weight_type: str) -> Timing:
        """Makes both graphs of a type: matrix x vector over the whole working set, matrix x matrix over one matrix."""
        layout, repacked = self._layout(weight_type)
        if layout not in self._weights:
            self._weights[layout] = self._filled(layout, self.size_bytes, WEIGHT_BYTE)
        buffer = self._weights[layout]
        decode, decode_bytes = self._graph(weight_type, layout, buffer, DECODE_ROWS, self._vector, self.size_bytes)
        prefill, _ = self._graph(weight_type, layout, buffer, PREFILL_ROWS, self._matrix, 0)
        return Timing(weight_type, repacked, decode, decode_bytes, prefill)

    def compute_s(self, graph: Any) -> float:
        """Seconds that one pass took, infinity if it was disturbed."""
        before, begun = _preemptions(), time.perf_counter()
        status = self.ggml.backend_graph_compute(self.backend, graph)
        took = time.perf_counter() - begun
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
        return took if _preemptions() - before <= HARMLESS_PREEMPTIONS else math.inf

    def _layout(self, weight_type: str) -> tuple[Any, bool]:
        """llama.cpp's first choice that supports the product (weight_buft_supported in src/llama-model-loader.cpp)."""
        *special, plain = self.ggml.weight_buffer_types()
        for layout in special:
            context = self._context()
            weights = self.ggml.new_tensor_2d(context, TYPES[weight_type], WIDTH, PREFILL_ROWS)
            size = self.ggml.backend_buft_get_alloc_size(layout, weights)
            buffer = self.ggml.backend_buft_alloc_buffer(layout, size)
            self.ggml.backend_tensor_alloc(buffer, weights, self.ggml.backend_buffer_get_base(buffer))
            product = self.ggml.mul_mat(context, weights, self._vector)
            supported = self.ggml.backend_dev_supports_op(self.ggml.cpu(), product)
            self.ggml.backend_buffer_free(buffer)
            self.ggml.free(context)
            if supported:
                return layout, True
        return plain, False

    def _graph(
        self, weight_type: str, layout: Any, buffer: Any, rows: int, right: Any, fill_bytes: int
    ) -> tuple[Any, int]:
        """Products of ``right`` with one matrix after the other until ``fill_bytes`` are used, at least one.

        Returns the graph and the bytes of its weights. All products go to the same place: only the time counts.
        """
        ggml, context = self.ggml, self._context()
        graph = ggml.new_graph(context)
        base, used, weight_bytes = ggml.backend_buffer_get_base(buffer), 0, 0
        align = ggml.backend_buft_get_alignment(layout)
        while True:
            weights = ggml.new_tensor_2d(context, TYPES[weight_type], WIDTH, rows)
            size = -(-ggml.backend_buft_get_alloc_size(layout, weights) // align) * align
            if used and used + size > fill_bytes:
                return graph, weight_bytes
            ggml.backend_tensor_alloc(buffer, weights, base + used)
            product = ggml.mul_mat(context, weights, right)
            ggml.backend_tensor_alloc(self._activations, product, self._output)
            ggml.build_forward_expand(graph, product)
            used += size
            weight_bytes += ggml.nbytes(weights)

    def _filled(self, layout: Any, size_bytes: int, byte: int) -> Any:
        buffer = self.ggml.backend_buft_alloc_buffer(layout, size_bytes)
        if not buffer:
            raise MemoryError(f"{size_bytes:,} bytes can't be had")
        self.ggml.backend_buffer_clear(buffer, byte)
        return buffer

    def _context(self) -> Any:
        return self.ggml.init(InitParams(CONTEXT_BYTES, None, True))


def try_out() -> None:
    """Computes two products, with one thread: a build for another processor does not survive that."""
    bench = Bench(threads=1, working_set_bytes=SMALL_BYTES)
    for weight_type in ("Q4_0", "Q4_K"):
        bench.compute_s(bench.timing(weight_type).decode)


def _preemptions() -> int:
    """How often a thread of ours has lost the processor to somebody else, as far as the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def measure(question: Mapping[str, Any]) -> dict[str, Any]:
    """``weight_types``, ``threads``, ``working_set_bytes``, ``budget_s`` in; ``rates`` out, as KernelRate has them.

    Rounds over all types until the budget is used, at least FEWEST_ROUNDS, the best pass of each type counting. While
    some type has had no undisturbed pass the rounds go on, for half of the budget more at the most.
    """
    begun, budget_s = time.perf_counter(), float(question["budget_s"])
    bench = Bench(int(question["threads"]), int(question["working_set_bytes"]))
    timings = [bench.timing(weight_type) for weight_type in question["weight_types"]]
    rounds, spent_s = 0, 0.0
    while (
        rounds < FEWEST_ROUNDS
        or spent_s < budget_s
        or (spent_s < 1.5 * budget_s and not all(one.complete for one in timings))
    ):
        for one in timings:
            one.best_decode_s = min(one.best_decode_s, bench.compute_s(one.decode))
            one.best_prefill_s = min(one.best_prefill_s, bench.compute_s(one.prefill))
            spent_s = time.perf_counter() - begun
            if spent_s > 1.5 * budget_s and rounds:
                break
        rounds += 1
    operations = 2 * WIDTH * PREFILL_ROWS * PREFILL_COLUMNS
    return {
        "rates": [
            {
                "weight_type": one.weight_type,
                "decode_bytes_per_s": one.decode_bytes / one.best_decode_s,
                "prefill_flop_per_s": operations / one.best_prefill_s,
                "repacked": one.repacked,
            }
            for one in timings
            if one.complete
        ]
    }


if __name__ == "__main__":
    sys.exit(child.answer(measure))
