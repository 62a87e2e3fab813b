"""What the engine's kernels were measured to do on a processor or a GPU."""

from __future__ import annotations

from msgspec import Struct

from llmctl.types.load import Load


class MatrixRate(Struct, frozen=True):
    """How fast one weight type goes through the engine's matrix kernels here, with so many ``threads`` (0: on a GPU).

    ``decode_bytes_per_s``: weight bytes streamed by matrix x vector; ``prefill_flop_per_s``: operations of
    matrix x matrix. ``weight_type`` is ggml's name (``Q4_K``). ``repacked``: in the layout that the engine, if it is
    let, gives such weights when it loads them, which takes a second, anonymous copy.

    ``uncertain`` (of the other rates, too) names the figures that no undisturbed pass stands for: as measured they are
    lower bounds, as ``planner.kernel_rows`` completes them they are estimates.
    """

    weight_type: str
    repacked: bool
    threads: int
    decode_bytes_per_s: float
    prefill_flop_per_s: float
    uncertain: tuple[str, ...] = ()


class BatchRate(Struct, frozen=True):
    """Matrix products with ``columns`` vectors at once, as a step for so many answers makes them: operations per
    second, with weights that come from memory."""

    weight_type: str
    repacked: bool
    columns: int
    threads: int
    batch_flop_per_s: float
    uncertain: tuple[str, ...] = ()


class AttentionRate(Struct, frozen=True):
    """Attention with a cache of ``kv_type``. In decoding, bytes of cache per second with one head of queries to each of
    keys and values (``alone``) and with four (``shared``); in prefill, operations per second."""

    kv_type: str
    flash: bool
    threads: int
    alone_bytes_per_s: float
    shared_bytes_per_s: float
    prefill_flop_per_s: float
    uncertain: tuple[str, ...] = ()


class NodeRate(Struct, frozen=True):
    """What lies between the products: operations of a graph per second that have next to nothing to compute, begun by
    all threads, which then wait for each other; and elements of a batch per second that one operation goes over."""

    threads: int
    nodes_per_s: float
    elements_per_s: float
    uncertain: tuple[str, ...] = ()


class MeasuredTime(Struct, frozen=True):
    """How fast the kernels were at one time, ``date``: the medians of what they did in decoding and in prefill, as
    shares of the fastest that was measured of each at any time."""

    date: str
    decode: float
    prefill: float


class Kernels(Struct, frozen=True):
    """What the engine's kernels were measured to do here. ``experts`` are matrix products of which each token uses a
    few out of many. Any row may be missing: other programs may have disturbed each of its passes; ``load`` is what else
    computed then, None if nothing did or all was measured all the same; ``date`` is when they were measured, UTC in ISO
    8601. ``times`` are the times at which all or some of them were measured undisturbed, the first time first."""

    matrices: tuple[MatrixRate, ...]
    experts: tuple[MatrixRate, ...] = ()
    attention: tuple[AttentionRate, ...] = ()
    overheads: tuple[NodeRate, ...] = ()
    batches: tuple[BatchRate, ...] = ()
    load: Load | None = None
    date: str | None = None
    times: tuple[MeasuredTime, ...] = ()
