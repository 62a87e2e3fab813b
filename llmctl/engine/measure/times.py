"""The times at which kernels were measured: how fast they were at each, beside the fastest of all times."""

from __future__ import annotations

from statistics import median

from msgspec.structs import replace

from llmctl.planner import kernel_rows
from llmctl.types.kernels import Kernels, MeasuredTime

LIMITS = (kernel_rows.LIMITED_BY_MEMORY, kernel_rows.LIMITED_BY_ARITHMETIC)


def with_time(before: Kernels, new: Kernels, fastest: Kernels, date: str) -> tuple[MeasuredTime, ...]:
    """The times of ``before`` and that of ``new``, beside ``fastest``, which is the two of them joined. Without that of
    ``new`` where too little of it was undisturbed to tell."""
    decode, prefill = shares(before, fastest) or (1.0, 1.0)
    earlier = [replace(time, decode=time.decode * decode, prefill=time.prefill * prefill) for time in before.times]
    own = shares(new, fastest)
    return (*earlier, *([] if own is None else [MeasuredTime(date, *own)]))


def shares(kernels: Kernels, fastest: Kernels) -> tuple[float, float] | None:
    """The medians of the undisturbed figures as shares of the ``fastest`` ones: of those that memory limits, and of
    those that arithmetic does. None without any of both."""
    own, best = kernel_rows.measured(kernels).certain, kernel_rows.measured(fastest).certain
    decode, prefill = (
        [value / best[figure] for figure, value in own.items() if figure.limit is limit and figure in best]
        for limit in LIMITS
    )
    return (median(decode), median(prefill)) if decode and prefill else None
