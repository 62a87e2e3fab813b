"""What the steps of a set-up do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl.engine import devices
from llmctl.errors import EngineError, LlmctlError, NothingFitsError
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit, NoFit, Plan, Want
from llmctl.types.policy import Policy
from llmctl.workspace import choose, completion_file, endpoints, user_settings
from llmctl.workspace import plan as planning
from llmctl.workspace.engine import find_server
from llmctl.workspace.present import Present
from llmctl.workspace.setup import answers
from llmctl.workspace.setup.answers import SetupLimits
from llmctl.workspace.setup.steps import Stage
from llmctl.workspace.situation import Situation, want

if TYPE_CHECKING:
    from llmctl.types.endpoint import KeyReference
    from llmctl.types.finding import Check
    from llmctl.workspace.engine_builds import BuildOffer

ADD = "llmctl endpoint add NAME URL --model MODEL   a server of yours"
TERMUX = "com.termux"  # in the folders of an app of Android that is a terminal


class SetupWishes(Struct, frozen=True):
    """What was asked for before models are offered."""

    task: str
    language: str | None = None
    limits: SetupLimits = SetupLimits()


class TaskChoice(Struct, frozen=True):
    """A task, and why its floor of speed is what it is."""

    name: str
    because: str


class Offered(Struct, frozen=True):
    """``plan`` has the models for what is ``wanted``; ``present`` is how fast the best would be just now, where the
    machine is busy."""

    plan: Plan
    wanted: Want
    present: Present | None


class SpeedVerdict(StrEnum):
    """A measured speed beside the range that was promised."""

    WITHIN = "as it should be"
    FASTER = "faster"
    SLOWER = "slower"


def is_termux() -> bool:
    return TERMUX in os.environ.get("PREFIX", "")


def tasks(situation: Situation) -> list[TaskChoice]:
    """Those in which a model writes, and needs no images."""
    every = situation.knowledge.tasks.values()
    return [TaskChoice(task.name, task.because) for task in every if task.writes and not task.sees]


def possible_steps(offer: BuildOffer | None, extras: Sequence[str]) -> frozenset[Stage]:
    """Those that make sense on this machine."""
    left_out = {Stage.BUILD: offer is None, Stage.EXTRAS: not extras}
    return frozenset(step for step in Stage if not left_out.get(step, False))


def extras(situation: Situation, shell: str | None) -> list[str]:
    """What can still be switched on: keeping models loaded, and completion for ``shell``."""
    offered = [] if situation.settings.keep_alive else [answers.KEEP_ALIVE]
    if shell is not None and not completion_file.place(shell).file.exists():
        offered.append(answers.COMPLETION)
    return offered


def floor_tok_s(situation: Situation, task: str) -> float:
    """The slowest writing that is usual for the task."""
    return situation.knowledge.tasks[task].min_tok_s


def offered(situation: Situation, wishes: SetupWishes) -> Offered:
    """What suits the machine for those wishes. Raises NothingFitsError."""
    floor = floor_tok_s(situation, wishes.task) * answers.PATIENT_SHARE if wishes.limits.is_patient else None
    wanted = replace(
        want(situation.settings, task=wishes.task, min_tok_s=floor),
        language=wishes.language,
        max_download_bytes=wishes.limits.max_download_bytes,
    )
    made = planning.plan_named(situation, None, wanted, task=wishes.task)
    if isinstance(made.answer, NoFit):
        raise NothingFitsError(made.answer.reason, hint=ADD)
    return Offered(made.answer, made.want, made.present)


def named(situation: Situation, name: str, wanted: Want) -> Fit:
    """What runs the model that is meant by NAME:QUANT, whatever was wished. Raises NothingFitsError, and what
    ``choose.choose`` raises."""
    answer = choose.choose(situation, name, replace(wanted, explicit=True, language=None, max_download_bytes=None))
    if isinstance(answer, NoFit):
        raise NothingFitsError(answer.reason, hint=ADD)
    return answer


def require_engine(situation: Situation) -> None:
    """Raises EngineError where nothing here can run a model."""
    if devices.startable(situation.engines) is None and find_server(situation.settings) is None:
        why = next((engine.why for engine in situation.engines if engine.why), "no engine is installed")
        raise EngineError(f"no model can run here: {why}", hint="llmctl engine install cpu")


def fetched(listener: Listener, situation: Situation, fit: Fit, wanted: Want) -> Fit:
    """``fit`` with its file on this machine. Whoever has picked it has agreed to the download. Raises OfflineError, and
    what the download raises."""
    if choose.is_here(fit):
        return fit
    situation.settings.require_network(f"{fit.candidate.model.name} {fit.candidate.artifact.quant}")
    return choose.fetch(listener, situation, fit, wanted)


def is_what_run_takes(situation: Situation, fit: Fit) -> bool:
    """Whether `llmctl run` without -m takes this model, now that it is here."""
    try:
        taken = choose.choose(situation, None, want(situation.settings))
    except LlmctlError:
        return False
    return isinstance(taken, Fit) and taken.candidate.model.id == fit.candidate.model.id


def verdict(fit: Fit, measured_tok_s: float) -> SpeedVerdict:
    if measured_tok_s < fit.speed.decode_low_tok_s:
        return SpeedVerdict.SLOWER
    return SpeedVerdict.FASTER if measured_tok_s > fit.speed.decode_high_tok_s else SpeedVerdict.WITHIN


def add_server(
    listener: Listener,
    address: str,
    key: KeyReference | None,
    policy: Policy,
    tell: Callable[[Check], None],
    *,
    name: str,
    model: str | None,
) -> None:
    """Adds a server, tries it, and sets when prompts may go there. One that can't be used is not kept. Raises what
    ``endpoints.add`` raises, and what is wrong with the server."""
    added = endpoints.add(listener, name, address, model=model, key=key)
    try:
        error = endpoints.try_out(listener, name, tell)
        if error is not None:
            raise error
    except BaseException:
        endpoints.remove(listener, name)
        raise
    if added.settings.policy is not policy:
        user_settings.set_value("policy", policy)
