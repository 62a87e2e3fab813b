"""What to want where an engine could not get the memory that was planned: one step down at a time. Pure.

The order is that of what a person notices least of what is given up: a shorter context, a KV cache in q8_0, fewer
layers on GPUs, a smaller file of the same model. Each step is added to those before it. What was asked for by name
doesn't change.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from llmctl.planner.configure import takes_quantized_cache
from llmctl.planner.judge import LEAST_CONTEXT
from llmctl.types.plan import F16, Q8_0, Fit, Want


class Step(Struct, frozen=True):
    """``change`` says what is different, to go on from "with". ``of_smaller_file``: what is wanted is to be planned for
    the smaller files of the same model, not for this one."""

    want: Want
    change: str
    of_smaller_file: bool = False


def steps(fit: Fit, want: Want) -> Iterator[Step]:
    """The steps down from ``fit``, which was planned for ``want``."""
    settings = fit.configuration
    now = replace(
        want,
        explicit=True,
        context=fit.context,
        kv_type=fit.kv_type,
        gpu_layers=fit.gpu_layers,
        repack=settings.repack,
        flash_attention=settings.flash_attention,
    )
    if want.context is None and (less := lower_context(fit.context, want)) is not None:
        now = replace(now, context=less)
        yield Step(now, f"{less:,} tokens of context instead of {fit.context:,}")
    if want.kv_type is None and fit.kv_type == F16 and takes_quantized_cache(fit.candidate.model.shape):
        now = replace(now, kv_type=Q8_0, flash_attention=True)
        yield Step(now, f"a KV cache in {Q8_0} instead of {F16}")
    if want.gpu_layers is None and fit.gpu_layers > 0:
        now = replace(now, gpu_layers=fit.gpu_layers // 2)
        yield Step(now, f"{fit.gpu_layers // 2} layers on GPUs instead of {fit.gpu_layers}")
    smaller = replace(want, explicit=True, context=now.context, kv_type=now.kv_type)
    yield Step(smaller, "a smaller file of it", of_smaller_file=True)


def lower_context(context: int, want: Want) -> int | None:
    """Half of ``context``, if the prompt, the answer and a least one have room in it."""
    half = context // 2
    return half if half >= max(LEAST_CONTEXT, (want.prompt_tokens or 0) + (want.answer_tokens or 0)) else None
