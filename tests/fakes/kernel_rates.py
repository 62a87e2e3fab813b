"""Rates of kernels that nobody measured."""

from __future__ import annotations

from dataclasses import replace

from llmctl.engine.kernels import WEIGHT_TYPES
from llmctl.types.machine import AttentionRate, Kernels, MatrixRate, NodeRate

RATES = Kernels(
    matrices=tuple(MatrixRate(name, False, 2, 41e9, 4e11) for name in WEIGHT_TYPES),
    experts=(MatrixRate("Q4_K", False, 2, 39e9, 3e11),),
    attention=(AttentionRate("f16", False, 2, 2e10, 1e10, 1e11),),
    overheads=(NodeRate(2, 1e6, 5e9),),
)


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
    return Kernels(matrices, experts, attention, overheads)
