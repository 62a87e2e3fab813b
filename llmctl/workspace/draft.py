"""Which smaller model drafts for the one that answers: the one that was named, or one that is here if it pays."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from llmctl.errors import NotFoundError, NothingFitsError, UsageError
from llmctl.gguf.header import read_file
from llmctl.planner import draft_model
from llmctl.shell import command
from llmctl.types.header import Header
from llmctl.types.model import Candidate
from llmctl.types.plan import Fit, Plan, Want
from llmctl.workspace.situation import Situation

SMALLER = 5  # times, at least: of a larger one each draft costs too much
VOCABULARY = tuple(f"tokenizer.ggml.{name}" for name in ("model", "pre", "bos_token_id", "eos_token_id"))
TOKENS = "tokenizer.ggml.tokens"


def with_named(situation: Situation, fit: Fit, name: str, want: Want) -> Fit:
    """``fit`` with the model ``name`` as its draft. Raises NotFoundError for one that isn't here, UsageError for one
    that has other tokens, NothingFitsError where there is no room for it, and what ``Situation.candidates`` raises."""
    candidates = [candidate for candidate in situation.candidates(name, ask_hub=False) if candidate.path is not None]
    if not candidates:
        raise NotFoundError(f"{name} is not on this machine", hint=command("llmctl", "pull", names=[name]))
    answering = _header(fit.candidate)
    alike = [candidate for candidate in candidates if _has_tokens_of(_header(candidate), answering)]
    if not alike:
        raise UsageError(f"{name} can't draft for {fit.candidate.model.name}: it has other tokens")
    drafting = _planned(situation, fit, min(alike, key=lambda candidate: candidate.artifact.bytes), want)
    if drafting is None:
        raise NothingFitsError(f"{name} doesn't fit beside {fit.candidate.model.name}", hint="llmctl run …")
    return draft_model.with_draft(fit, drafting, _depth(situation, want), situation.past, is_asked_for=True)


def with_best(situation: Situation, fit: Fit, want: Want) -> Fit:
    """``fit`` with the model that is here and makes its answers fastest; as it is where none makes them faster."""
    planned = (_planned(situation, fit, candidate, want) for candidate in _candidates(situation, fit))
    made = [
        draft_model.with_draft(fit, drafting, _depth(situation, want), situation.past, is_asked_for=False)
        for drafting in planned
        if drafting is not None
    ]
    best = max(made, key=_gain, default=fit)
    return best if _gain(best) >= draft_model.LEAST_GAIN else fit


def _gain(fit: Fit) -> float:
    return 1.0 if fit.draft is None else fit.draft.gain


def _candidates(situation: Situation, fit: Fit) -> Iterator[Candidate]:
    """Smaller ones of the catalogue with the same architecture and tokens that are on this machine."""
    model, most_bytes = fit.candidate.model, fit.candidate.artifact.bytes // SMALLER
    if fit.candidate.path is None or fit.candidate.projector is not None or model.shape.state_bytes:
        return
    alike = [other for other in situation.catalogue.models if other.shape.architecture == model.shape.architecture]
    smaller = [other for other in alike if min(artifact.bytes for artifact in other.artifacts) <= most_bytes]
    offered = [candidate for other in smaller for candidate in situation.candidates(other.id)]
    stored = [
        candidate for candidate in offered if candidate.path is not None and candidate.artifact.bytes <= most_bytes
    ]
    answering = _header(fit.candidate) if stored else None
    yield from (candidate for candidate in stored if answering and _has_tokens_of(_header(candidate), answering))


def _planned(situation: Situation, fit: Fit, candidate: Candidate, want: Want) -> Fit | None:
    """``candidate`` in what is free beside ``fit``; None where it has no room there."""
    context = min(fit.context, candidate.model.shape.context_train)
    beside = replace(situation, machine=draft_model.machine_beside(situation.machine, fit))
    wanted = Want(task=want.task, context=context, threads=fit.threads, explicit=True, tight=True)
    answer = beside.plan([candidate], wanted)
    return answer.choice if isinstance(answer, Plan) else None


def _depth(situation: Situation, want: Want) -> int:
    return want.prompt_tokens or situation.knowledge.tasks[want.task].prompt_tokens


def _header(candidate: Candidate) -> Header:
    assert candidate.path is not None
    return read_file(candidate.path, whole=False)


def _has_tokens_of(first: Header, second: Header) -> bool:
    """As far as headers tell; the engine compares the tokens themselves."""
    same = all(first.metadata.get(key) == second.metadata.get(key) for key in VOCABULARY)
    return same and first.array_lengths.get(TOKENS) == second.array_lengths.get(TOKENS)
