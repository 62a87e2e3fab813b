"""Rates of kernels that nobody measured."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmctl.engine.measure.kernels import WEIGHT_TYPES
from llmctl.engine.measure.microbench import BATCH_COLUMNS, BATCH_TYPES, CACHES, THREADS_TYPES
from llmctl.types.kernels import AttentionRate, BatchRate, Kernels, MatrixRate, NodeRate


def rates(threads: Sequence[int] = (2, 1)) -> Kernels:
    """A complete measurement with these numbers of threads, the usual one first (``kernels.thread_counts``)."""
    usual, *fewer = threads
    return Kernels(
        matrices=(
            *(MatrixRate(name, False, usual, 41e9, 4e11) for name in WEIGHT_TYPES),
            *(MatrixRate(name, False, count, 30e9, 2e11) for name in THREADS_TYPES for count in fewer),
        ),
        experts=(MatrixRate("Q4_K", False, usual, 39e9, 3e11),),
        attention=tuple(
            AttentionRate(name.lower(), flash, usual, *((9e9, 6e9, 8e10) if flash else (2e10, 1e10, 1e11)))
            for name, flash in CACHES
        ),
        overheads=tuple(NodeRate(count, 1e6, 5e9) for count in threads),
        batches=tuple(
            BatchRate(name, False, columns, usual, 1.2e11) for name in BATCH_TYPES for columns in BATCH_COLUMNS
        ),
    )


RATES = rates()


def scaled(kernels: Kernels, factor: float) -> Kernels:
    """All of it so much faster."""
    matrices, experts = (
        tuple(
            replace(
                one,
                decode_bytes_per_s=one.decode_bytes_per_s * factor,
                prefill_flop_per_s=one.prefill_flop_per_s * factor,
            )
            for one in rates
        )
        for rates in (kernels.matrices, kernels.experts)
    )
    attention = tuple(
        replace(
            one,
            alone_bytes_per_s=one.alone_bytes_per_s * factor,
            shared_bytes_per_s=one.shared_bytes_per_s * factor,
            prefill_flop_per_s=one.prefill_flop_per_s * factor,
        )
        for one in kernels.attention
    )
    overheads = tuple(
        replace(one, nodes_per_s=one.nodes_per_s * factor, elements_per_s=one.elements_per_s * factor)
        for one in kernels.overheads
    )
    batches = tuple(replace(one, batch_flop_per_s=one.batch_flop_per_s * factor) for one in kernels.batches)
    return Kernels(matrices, experts, attention, overheads, batches)
