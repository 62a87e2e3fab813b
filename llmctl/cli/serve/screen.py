"""What ``llmctl serve`` says of its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmctl import units
from llmctl.workspace.served_model import PlannedModel

if TYPE_CHECKING:
    from llmctl.workspace.serve_original import OriginalModel
    from llmctl.workspace.serve_plan import ServePlan


def lines(plan: ServePlan) -> list[str]:
    """The plan, a line for each model, and what becomes of them together."""
    said = [_line(model) for model in plan.models]
    if not plan.all_together:
        said.append(
            "Not all of them fit in memory together: one is loaded when it is asked for, and the one that was used "
            "least recently ends for it."
        )
    return said


def _line(model: PlannedModel | OriginalModel) -> str:
    return _planned_line(model) if isinstance(model, PlannedModel) else _original_line(model)


def _original_line(model: OriginalModel) -> str:
    at = model.deployment
    total, each = units.size(model.memory_bytes), units.size(at.cluster.gpu_bytes)
    users, gpus = units.number_of(model.users, "user"), units.number_of(model.gpus, "GPU")
    return f"{at.repo} by vLLM: planned for {users} of {model.context:,} tokens each: {total} on {gpus} of {each}."


def _planned_line(model: PlannedModel) -> str:
    fit = model.fit
    free = max((row.available_bytes for row in fit.memory.by_device), default=None)
    takes = _of(sum(row.total_bytes for row in fit.memory.by_device), free)
    name = f"{fit.candidate.model.name} {model.quant}"
    if not model.writes:
        return f"{name}: reads texts of up to {fit.context:,} tokens; {takes}."
    users = units.number_of(model.users, "user")
    each = " each" if model.users > 1 else ""
    return f"{name}: planned for {users} of {fit.context:,} tokens{each}: {takes}, {_speed(model)}."


def _speed(model: PlannedModel) -> str:
    """ "about 9 tok/s for one, 21 for four together" """
    speed = model.fit.speed
    alone = f"about {units.tok_s(speed.decode_tok_s)} tok/s"
    if speed.together_tok_s is None:
        return alone
    return f"{alone} for one, {units.tok_s(speed.together_tok_s)} for {model.users} together"


def _of(size_bytes: int, free_bytes: int | None) -> str:
    """ "9.8 of 24.9 GB" """
    needs, free = units.size(size_bytes), units.size(free_bytes)
    number, _, unit = needs.partition(" ")
    return f"{number if free.endswith(f' {unit}') else needs} of {free}"


def document(
    plan: ServePlan, address: str, *, pid: int, log: str | None, is_detached: bool, page: str | None
) -> Mapping[str, Any]:
    return {
        "address": address,
        "page": page,
        "pid": pid,
        "detached": is_detached,
        "log": log,
        "models": [_model(model) for model in plan.models],
        "auto": plan.auto,
        "task": plan.task,
        "all_together": plan.all_together,
    }


def _model(model: PlannedModel | OriginalModel) -> Mapping[str, Any]:
    speed = model.fit.speed if isinstance(model, PlannedModel) and model.writes else None
    together = None if speed is None else speed.together_tok_s
    return {
        "name": model.name,
        "quant": model.quant,
        "context": model.context,
        "users": model.users,
        "tasks": model.tasks,
        "pinned": model.pinned,
        "memory": model.memory,
        "decode_tok_s": None if speed is None else round(speed.decode_tok_s, 2),
        "together_tok_s": None if together is None else round(together, 2),
    }
