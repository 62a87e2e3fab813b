"""What would answer a prompt on this machine, ready to run, and what must not make the prompt leave."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from llmctl import units
from llmctl.errors import LlmctlError, UsageError
from llmctl.shell import command
from llmctl.types.listener import Listener

if TYPE_CHECKING:
    from llmctl.router.lending import StepsDown
    from llmctl.settings import Settings
    from llmctl.types.endpoint import Barred, Endpoint
    from llmctl.types.plan import Fit, NoFit, Want
    from llmctl.workspace.situation import Situation

VISION = "vision"  # the task of a prompt with images, unless another is asked for


class Asked(Struct, frozen=True):
    """What was asked for on the command line; ``sees``: the prompt has images; ``draft`` names the model that is to
    draft for the one that answers; ``once``: one prompt, which a server may answer in place of a machine that is slower
    than the user allows."""

    model: str | None
    task: str | None
    context: int | None
    threads: int | None
    prompt_tokens: int
    answer_tokens: int | None
    sees: bool = False
    draft: str | None = None
    once: bool = False

    def want(self, loaded: Settings, *, named: bool) -> Want:
        """What is wanted with these settings; ``named``: a model is."""
        from llmctl.workspace import situation

        task = self.task or (VISION if self.sees else None)
        wanted = situation.want(loaded, task=task, context=self.context, threads=self.threads, explicit=named)
        return replace(wanted, prompt_tokens=self.prompt_tokens, answer_tokens=self.answer_tokens, sees=self.sees)


class LocalRun(Struct, frozen=True):
    """What would run on this machine, for which of its failures the prompt may not leave, and what is tried where it
    doesn't get the memory that was planned. ``fetched`` is what is to run once it is fetched, where a server may
    answer meanwhile."""

    planned: Fit | NoFit
    barred: Barred = field(default_factory=dict)
    steps_down: StepsDown | None = None
    fetched: Fit | None = None


def local_run(
    listener: Listener, loaded: Settings, asked: Asked, *, yes: bool, local: bool, dry: bool = False
) -> LocalRun:
    """What would run here, its file fetched if it is to run, and what must not make the prompt leave. ``dry``: nothing
    is measured and nothing fetched."""
    from llmctl.router.barred import barred
    from llmctl.router.route import first_allowed
    from llmctl.types.policy import Policy
    from llmctl.workspace import choose, situation
    from llmctl.workspace.step_down import Below

    name, named = asked.model or loaded.model, _named(loaded, asked)
    with _naming(named if asked.model is None else None):
        shelf = situation.shelf(listener, loaded=loaded)
        # Measuring takes seconds: worth it before a download is chosen, not before what is here answers.
        at_hand = any(candidate.path for candidate in shelf.candidates(name))
        looked_at = situation.look(listener, before=shelf, measure=not (at_hand or dry), task=asked.task)
        wanted = runnable(listener, looked_at, asked, asked.want(loaded, named=name is not None))
        planned = choose.choose(looked_at, name, wanted)
        server = first_allowed(loaded.policy, loaded.endpoints, local=local, offline=loaded.offline)
        own = None
        if server is not None and loaded.project is not None and name is None:
            own = _without_project(looked_at, asked)
        bars = barred(planned, named=named, context=asked.context, project=loaded.project, own=own)
        steps_down = Below(looked_at, name, wanted)
        run = LocalRun(planned, bars, steps_down)
        if server is not None and asked.once and loaded.policy is Policy.PREFER_LOCAL:
            waits = _while_it_waits(listener, looked_at, run, wanted, server, yes=yes, dry=dry)
            if dry or waits.is_left:
                return waits.run
            run = waits.run
        if dry or (server is not None and loaded.policy is Policy.PREFER_REMOTE):
            return run
        ready = _ready(listener, looked_at, name, planned, wanted, yes=yes)
        drafting = _with_draft(looked_at, asked, _with_engine(listener, looked_at, ready), wanted)
        return replace(run, planned=drafting)


class _Waits(Struct, frozen=True):
    """``is_left``: a server answers, so that nothing is fetched or loaded for this prompt."""

    run: LocalRun
    is_left: bool = False


def _while_it_waits(
    listener: Listener, looked_at: Situation, run: LocalRun, wanted: Want, server: Endpoint, *, yes: bool, dry: bool
) -> _Waits:
    """``run``, and whether ``server`` answers because it would have to be waited for. ``dry``: nobody is asked. Raises
    what ``meanwhile.answers_meanwhile`` raises."""
    from llmctl.router.limits import leaves
    from llmctl.types.endpoint import LeaveReason
    from llmctl.types.plan import NoFit
    from llmctl.workspace import meanwhile
    from llmctl.workspace.ask import wait_limits

    fit, settings, may_wait = run.planned, looked_at.settings, LeaveReason.DOWNLOADING not in run.barred
    if isinstance(fit, NoFit):
        return _Waits(run)
    if fit.candidate.path is not None:
        fetched = meanwhile.better_that_is_fetched(looked_at, fit, wanted) if may_wait else None
        return _Waits(replace(run, fetched=fetched))
    if LeaveReason.LIMIT_MISSED not in run.barred and leaves(fit, wait_limits(settings)) is not None:
        return _Waits(run, is_left=True)
    if dry:
        return _Waits(replace(run, fetched=fit) if may_wait and settings.server_meanwhile else run)
    if may_wait and meanwhile.answers_meanwhile(listener, looked_at, fit, wanted, server, yes=yes):
        return _Waits(replace(run, fetched=fit), is_left=True)
    return _Waits(run)


def _with_draft(looked_at: Situation, asked: Asked, ready: Fit | NoFit, wanted: Want) -> Fit | NoFit:
    """``ready`` with a smaller model that drafts for it, where one was named, or one that is here makes it faster."""
    from llmctl.types.plan import NoFit
    from llmctl.workspace import draft

    if isinstance(ready, NoFit):
        return ready
    if asked.draft is not None:
        return draft.with_named(looked_at, ready, asked.draft, wanted)
    if not looked_at.settings.speculate:
        return ready
    if ready.server is not None:  # which alone uses a file's own heads for drafting
        return replace(ready, drafts_itself=ready.candidate.model.shape.n_draft > 0)
    return draft.with_best(looked_at, ready, wanted)


def _with_engine(listener: Listener, looked_at: Situation, ready: Fit | NoFit) -> Fit | NoFit:
    """``ready`` with the engine that runs it: llama-cpp-python unless the settings or the machine say otherwise."""
    from llmctl.types.plan import NoFit
    from llmctl.workspace.engine import with_server

    return ready if isinstance(ready, NoFit) else with_server(listener, looked_at, ready)


def runnable(listener: Listener, looked_at: Situation, asked: Asked, wanted: Want) -> Want:
    """``wanted`` with no more threads than the processor runs at once: thousands stop each other, or the engine. Raises
    UsageError if they were asked for on the command line; a setting may be meant for another machine."""
    most = looked_at.machine.cpu.logical_cores
    if wanted.threads is None or not 0 < most < wanted.threads:
        return wanted
    if asked.threads is not None:
        raise UsageError(
            f"--threads is {asked.threads}, this processor runs {most} at once: more wait for each other",
            hint=f"llmctl run --threads {looked_at.machine.cpu.usable_threads} …",
        )
    listener.warn(f"the setting threads is {wanted.threads}, this processor runs {most} at once: {most} are used")
    return replace(wanted, threads=most)


def _named(loaded: Settings, asked: Asked) -> str | None:
    """Where a model is named, for a person; None if llmctl is to choose."""
    from llmctl.settings import setting_named

    if asked.model is not None:
        return f"-m {shlex.quote(asked.model)}"
    if loaded.model is None:
        return None
    variable = setting_named("model").variable
    if loaded.project is not None and "model" in loaded.project.values:
        return f"{loaded.project.file}: model = {loaded.model!r}"
    return f"{variable}={loaded.model}" if os.environ.get(variable) else f"the setting model = {loaded.model!r}"


@contextmanager
def _naming(where: str | None) -> Iterator[None]:
    """Adds to an error where the model was named that is to answer, unless it was on the command line."""
    try:
        yield
    except LlmctlError as error:
        if where is not None:
            error.message += f" ({where})"
        raise


def _without_project(looked_at: Situation, asked: Asked) -> Fit | NoFit | None:
    """What would run here if there were no project file; None where that is an error."""
    from llmctl.workspace import choose

    loaded = looked_at.settings.without_project()
    try:
        return choose.choose(replace(looked_at, settings=loaded), None, asked.want(loaded, named=False))
    except LlmctlError:
        return None


def _ready(
    listener: Listener, looked_at: Situation, name: str | None, planned: Fit | NoFit, wanted: Want, *, yes: bool
) -> Fit | NoFit:
    """``planned`` with its file on this machine, fetched if need be."""
    from llmctl.types.plan import NoFit
    from llmctl.workspace import choose

    if isinstance(planned, NoFit):
        return planned
    choose.tell_what_is_missing(listener, planned, named=name is not None)
    fit = choose.obtain(listener, looked_at, planned, wanted, named=name is not None, yes=yes)
    for warning in fit.warnings:
        listener.warn(warning)
    if name is None and (pick := choose.better(looked_at, fit, wanted)) is not None:
        size = units.size(pick.download_bytes)
        better = command("llmctl", "pull", names=[choose.name_of(pick.candidate)])
        listener.note(f"The starter answers. Better for this machine: {better} ({size})")
    return fit
