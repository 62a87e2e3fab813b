"""How many requests an engine that stays can answer at once: each sequence has a cache of the whole context."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from llmctl.gguf.layers import ENCODERS
from llmctl.planner.compute import output_bytes
from llmctl.planner.graphs import graph_of
from llmctl.planner.memory import margin_bytes, room_bytes
from llmctl.types.plan import CPU, Configuration, DeviceMemory, Fit, MemoryPlan

MOST_SEQUENCES = 4  # what one person asks at once: a chat, an editor, a script


def sequences_with_room(fit: Fit, held_bytes: Mapping[str, int]) -> int:
    """Sequences of the planned context, 1 to MOST_SEQUENCES, of which all but the first leave as much memory as a
    recommendation does. ``held_bytes``: memory of each device that idle engines hold, which the plan counts as free:
    none of them is to end for a second sequence."""
    shape = fit.candidate.model.shape
    if shape.architecture in ENCODERS or graph_of(shape).embeds:
        return 1
    fitting = (count for count in range(MOST_SEQUENCES, 1, -1) if _leaves_room(with_sequences(fit, count), held_bytes))
    return next(fitting, 1)


def _leaves_room(fit: Fit, held_bytes: Mapping[str, int]) -> bool:
    return all(
        row.total_bytes + _kept_free_bytes(row) + held_bytes.get(row.device, 0) <= row.available_bytes
        for row in fit.memory.by_device
    )


def _kept_free_bytes(row: DeviceMemory) -> int:
    return (room_bytes if row.device == CPU else margin_bytes)(row.available_bytes)


def with_sequences(fit: Fit, sequences: int) -> Fit:
    """``fit`` with so many sequences, its memory counted accordingly; context and settings stay those of one."""
    if sequences == fit.configuration.sequences:
        return fit
    configuration = replace(fit.configuration, sequences=sequences)
    return replace(fit, configuration=configuration, memory=_memory(fit, configuration))


def _memory(fit: Fit, configuration: Configuration) -> MemoryPlan:
    """As ``Placer`` counts it. The logits of further sequences are reserved, not touched by reading prompts."""
    planned, shape = fit.memory, fit.candidate.model.shape
    if not planned.by_device:
        return planned
    outputs = output_bytes(shape, configuration) - output_bytes(shape, fit.configuration)
    host, *devices = planned.by_device
    ratio = configuration.sequences, fit.configuration.sequences
    rows = (_row(host, *ratio, outputs), *(_row(row, *ratio, 0) for row in devices))
    more = sum(row.total_bytes for row in rows) - sum(row.total_bytes for row in planned.by_device)
    touched = planned.touched_bytes + more - (0 if devices else outputs)
    must_fit = sum(row.total_bytes for row in rows) + host.repacked_bytes - planned.mapped_bytes
    return replace(planned, by_device=rows, must_fit_bytes=max(must_fit, touched), touched_bytes=touched)


def _row(row: DeviceMemory, sequences: int, before: int, outputs: int) -> DeviceMemory:
    kv, state = (size // before * sequences for size in (row.kv_bytes, row.state_bytes))
    more = kv - row.kv_bytes + state - row.state_bytes + outputs
    return replace(
        row,
        kv_bytes=kv,
        state_bytes=state,
        compute_bytes=row.compute_bytes + outputs,
        total_bytes=row.total_bytes + more,
    )
