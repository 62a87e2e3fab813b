"""Models for the engine in a browser's tab: their files in parts, and whether and how fast they run there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import paths
from llmctl.catalogue import openness
from llmctl.catalogue.browser_tab import load_browser_tab
from llmctl.errors import LlmctlError, NothingFitsError
from llmctl.gguf import split
from llmctl.gguf.pieces import Piece
from llmctl.planner.browser_tab import tab_machine
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.types.browser_tab import BrowserTab
from llmctl.types.listener import Listener, SilentListener
from llmctl.types.model import Candidate
from llmctl.types.plan import Fit, NoFit, Want
from llmctl.workspace import choose, situation
from llmctl.workspace.serve_plan import ServePlan
from llmctl.workspace.served_model import PlannedModel
from llmctl.workspace.situation import Situation

CONTEXT = 4096  # of a conversation in a tab, unless a person takes more


class TabModel(Struct, frozen=True):
    """A model by its ``name``, and its files. ``about`` is what a page is told of it, as JSON."""

    name: str
    about: Mapping[str, Any]
    pieces: tuple[Piece, ...]


def browser_tab() -> BrowserTab:
    """What a tab has, as measured. Raises ConfigError."""
    return load_browser_tab(paths.profiles_dir())


def in_tab(looked_at: Situation) -> Situation:
    """For plans of what runs in a browser's tab on that machine. The engine there was not asked for anything."""
    machine = tab_machine(looked_at.machine, browser_tab())
    return replace(looked_at, machine=machine, engines=(), past=(), begun=None)


def of_plan(plan: ServePlan) -> Callable[[], Sequence[TabModel]]:
    """Gives the models of a gateway that answer in words. The first call looks at the machine, and takes a second."""

    @cache
    def models() -> Sequence[TabModel]:
        looked_at = in_tab(situation.look(SilentListener(), measure=False))
        files = [model for model in plan.models if isinstance(model, PlannedModel) and model.writes]
        return [tab_model(looked_at, model.name, model.fit.candidate) for model in files]

    return models


def tab_model(looked_at: Situation, name: str, candidate: Candidate) -> TabModel:
    """``looked_at`` is a tab's. Of what can't be loaded there ``about`` says why not."""
    tab = browser_tab()
    assert candidate.path is not None, "it is here"
    pieces, why_not = _pieces(candidate.path, tab)
    context = min(CONTEXT, candidate.model.shape.context_train)
    want = Want(task=looked_at.settings.task, context=context, explicit=True)
    answer = looked_at.plan([candidate], want)
    fit = None if isinstance(answer, NoFit) else answer.choice
    why_not = why_not or (answer.reason if isinstance(answer, NoFit) else None)
    return TabModel(name, {**_about(candidate, fit, tab), "context": context, "why_not": why_not}, pieces)


def _pieces(path: Path, tab: BrowserTab) -> tuple[tuple[Piece, ...], str | None]:
    try:
        return split.pieces(path, tab.part_bytes), None
    except (LlmctlError, OSError) as error:
        return (), error.message if isinstance(error, LlmctlError) else f"its file can't be read: {error.strerror}"


def _about(candidate: Candidate, fit: Fit | None, tab: BrowserTab) -> Mapping[str, Any]:
    model, artifact = candidate.model, candidate.artifact
    return {
        "size_bytes": artifact.bytes,
        "sha256": artifact.source.sha256,
        "openness": openness.highest(model),
        "licence": model.licence,
        "limit_bytes": tab.memory_bytes,
        "memory_bytes": None if fit is None else sum(row.total_bytes for row in fit.memory.by_device),
        "tok_s": None if fit is None else round(fit.speed.decode_tok_s, 2),
        "threads": None if fit is None else fit.threads,
    }


def chosen(listener: Listener, settings: Settings, name: str | None, *, yes: bool) -> TabModel:
    """The model ``name`` for a tab, or the best that fits one, of those on this machine if there are any; fetched with
    consent if need be. Raises NothingFitsError, and what ``choose.obtain`` raises."""
    shelf = situation.shelf(listener, loaded=settings)
    shelf.require(name)
    looked_at = situation.look(listener, before=shelf)
    every = looked_at.candidates(name)
    stored = [candidate for candidate in every if candidate.path is not None]
    want = replace(situation.want(settings, explicit=name is not None), context=CONTEXT)
    tab = in_tab(looked_at)
    answer = tab.plan(stored or every, want)
    if isinstance(answer, NoFit):
        raise NothingFitsError(answer.reason, hint=command("llmctl", "plan", "--browser"))
    fit = choose.obtain(listener, looked_at, answer.choice, want, named=name is not None, yes=yes)
    model = tab_model(tab, fit.candidate.model.id, fit.candidate)
    if model.about["why_not"] is not None:
        raise NothingFitsError(f"{model.name} doesn't run in a tab: {model.about['why_not']}")
    return model
