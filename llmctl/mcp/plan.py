"""The tool ``plan``: what would run on this machine, how fast and in how much memory."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from llmctl.errors import NotFoundError, OfflineError
from llmctl.mcp.call import CallListener
from llmctl.mcp.served_tool import Count, Name, ServedTool
from llmctl.shell import command
from llmctl.types.plan import Fit, NoFit
from llmctl.workspace.workspace import Workspace

MOST_ALTERNATIVES = 5
DIGITS = 2


class PlanArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without a model it is about all that there is."""

    model: Annotated[
        Name | None, Meta(description="A model of the catalogue or of this machine, NAME or NAME:QUANT, or a GGUF file")
    ] = None
    task: Annotated[
        Name | None,
        Meta(description="chat, code, reasoning, summarise, translate, extract, vision, embed or rerank"),
    ] = None
    language: Annotated[Name | None, Meta(description="A language that it must know, by its code: it")] = None
    context: Annotated[Count | None, Meta(description="Tokens of context")] = None
    min_tok_s: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Slowest writing to accept")] = None
    max_download_bytes: Annotated[int, Meta(ge=0)] | None = None
    installed: Annotated[bool, Meta(description="Only what is on this machine")] = False


class PlannedChoice(Struct, frozen=True):
    """A model in one quantization as it would run here. Speeds are tokens per second, with the range that holds four
    times in five; ``quality`` is an index of published results, null where there are none."""

    model: str
    quant: str
    name: str
    installed: bool
    download_bytes: int
    context: int
    must_fit_bytes: int
    decode_tok_s: float
    decode_low_tok_s: float
    decode_high_tok_s: float
    prefill_tok_s: float
    first_token_s: float
    quality: float | None
    licence: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


class PlanResult(Struct, frozen=True):
    """``choice`` is null where nothing fits, and ``no_fit`` then says why."""

    task: str
    choice: PlannedChoice | None
    alternatives: tuple[PlannedChoice, ...]
    no_fit: str | None
    warnings: tuple[str, ...]


def plan(asked: PlanArguments, call: CallListener) -> PlanResult:
    """Raises what ``Workspace.plan`` raises; NotFoundError for a model that only the hub may have."""
    try:
        planned = Workspace(call, offline=True).planned(
            asked.model,
            task=asked.task,
            language=asked.language,
            context=asked.context,
            min_tok_s=asked.min_tok_s,
            max_download_bytes=asked.max_download_bytes,
            installed=asked.installed,
        )
    except OfflineError as error:
        raise NotFoundError(
            f"{asked.model} is neither in the catalogue nor on this machine, and the model hub is not asked",
            hint=command("llmctl", "plan", names=[asked.model or ""]),
        ) from error
    answer, task, warnings = planned.answer, planned.want.task, tuple(call.warnings)
    if isinstance(answer, NoFit):
        return PlanResult(task, None, (), answer.reason, warnings)
    alternatives = tuple(map(planned_model, answer.alternatives[:MOST_ALTERNATIVES]))
    return PlanResult(task, planned_model(answer.choice), alternatives, None, warnings)


def planned_model(fit: Fit) -> PlannedChoice:
    model, speed = fit.candidate.model, fit.speed
    return PlannedChoice(
        model=model.id,
        quant=fit.candidate.artifact.quant,
        name=model.name,
        installed=fit.candidate.path is not None,
        download_bytes=fit.download_bytes,
        context=fit.context,
        must_fit_bytes=fit.memory.must_fit_bytes,
        decode_tok_s=round(speed.decode_tok_s, DIGITS),
        decode_low_tok_s=round(speed.decode_low_tok_s, DIGITS),
        decode_high_tok_s=round(speed.decode_high_tok_s, DIGITS),
        prefill_tok_s=round(speed.prefill_tok_s, DIGITS),
        first_token_s=round(speed.first_token_s, DIGITS),
        quality=fit.quality,
        licence=model.licence,
        reasons=fit.reasons,
        warnings=fit.warnings,
    )


TOOL = ServedTool(
    name="plan",
    title="Which model suits this machine",
    description="What would run on this machine, how fast, in how much memory, and why. Fetches and loads nothing.",
    arguments=PlanArguments,
    result=PlanResult,
    answer=plan,
)
