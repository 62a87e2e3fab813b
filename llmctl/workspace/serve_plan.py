"""What a gateway is to serve on this machine: which models, for how many users at once, and what they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl import units
from llmctl.errors import NothingFitsError, UsageError
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit, NoFit, Want
from llmctl.types.serve_engine import ServeEngine
from llmctl.workspace.served_model import PlannedModel
from llmctl.workspace.served_room import Memory

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.model import Candidate
    from llmctl.workspace.serve_original import OriginalModel
    from llmctl.workspace.situation import Situation

USUAL_USERS = 4
MOST_USERS = 256  # sequences of a context; llama.cpp's own limit
WITHOUT_WORDS = ("embed", "rerank")


class ServeAsked(Struct, frozen=True):
    """What was asked for on the command line. ``models`` are names or files, ``tasks`` those for which llmctl chooses;
    with neither it is the task of the settings. ``users`` None: as many as memory has room for, USUAL_USERS at most.
    ``pinned`` are names of models."""

    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    users: int | None = None
    context: int | None = None
    pinned: tuple[str, ...] = ()
    yes: bool = False
    engine: ServeEngine = ServeEngine.LLAMA_CPP


class ServePlan(Struct, frozen=True):
    """``auto`` has the name of the model for each task, ``task`` is the one of plain "auto"; ``budget`` is what all
    that is loaded may take, of each device. ``all_together``: every model can be loaded at once."""

    models: tuple[PlannedModel | OriginalModel, ...]
    auto: Mapping[str, str]
    task: str
    budget: Memory
    all_together: bool


def planned(listener: Listener, settings: Settings, asked: ServeAsked) -> ServePlan:
    """The plan, its files on this machine, fetched with consent if need be.

    Raises NothingFitsError (also where there is no room for so many users, or for all that is pinned), UsageError, and
    what ``choose.planned``, ``choose.obtain`` and ``serve_original.planned`` raise.
    """
    from llmctl.workspace import serve_original, situation

    if asked.engine is ServeEngine.VLLM:
        return serve_original.planned(listener, settings, asked)
    shelf = situation.shelf(listener, loaded=settings)
    names = asked.models or (() if asked.tasks or settings.model is None else (settings.model,))
    at_hand = names and all(any(candidate.path for candidate in shelf.candidates(name)) for name in names)
    looked_at = situation.look(listener, before=shelf, measure=not at_hand)
    tasks = asked.tasks or (() if names else (settings.task,))
    models = [_named(listener, looked_at, asked, name) for name in names]
    models += [_for_task(listener, looked_at, asked, task) for task in tasks]
    models = _pinned(_with_names(models), asked.pinned)
    budget = _budget(models)
    _require_room(models, budget)
    task = tasks[0] if tasks else settings.task
    auto = _auto(looked_at, models)
    auto.setdefault(task, models[0].name)
    with_tasks = [
        replace(model, tasks=tuple(task for task, name in auto.items() if name == model.name)) for model in models
    ]
    return ServePlan(tuple(with_tasks), auto, task, budget, _have_room(models, budget))


def _named(listener: Listener, looked_at: Situation, asked: ServeAsked, name: str) -> PlannedModel:
    candidates = looked_at.candidates(name, ask_hub=False)
    task = _own_task(candidates) or looked_at.settings.task
    made = _planned(listener, looked_at, asked, candidates, task, name)
    return replace(made, also_named=(*made.also_named, name))


def _for_task(listener: Listener, looked_at: Situation, asked: ServeAsked, task: str) -> PlannedModel:
    """Raises UsageError for a task that there is not."""
    tasks = looked_at.knowledge.tasks
    if task not in tasks:
        raise UsageError(f"there is no task named {task!r}, only {', '.join(tasks)}", hint="llmctl plan --help")
    return _planned(listener, looked_at, asked, looked_at.candidates(None), task, None)


def _planned(
    listener: Listener,
    looked_at: Situation,
    asked: ServeAsked,
    candidates: Sequence[Candidate],
    task: str,
    name: str | None,
) -> PlannedModel:
    from llmctl.workspace import choose, situation
    from llmctl.workspace.engine import with_server

    wanted = situation.want(looked_at.settings, task=task, context=asked.context, explicit=name is not None)
    wanted = replace(wanted, sees=looked_at.knowledge.tasks[task].sees)
    able, writes = _able(candidates, looked_at, task), looked_at.knowledge.tasks[task].writes
    choice = _with_projector(listener, looked_at, able, wanted, asked.users if writes else 1, name)
    fit = choose.obtain(listener, looked_at, choice, wanted, named=name is not None, yes=asked.yes)
    for warning in fit.warnings:
        listener.warn(warning)
    if writes:
        fit = with_server(listener, looked_at, fit)
    model, users = fit.candidate.model.id, fit.configuration.sequences if writes else asked.users or USUAL_USERS
    return PlannedModel(model, fit, also_named=(model, choose.name_of(fit.candidate)), users=users, writes=writes)


def _with_projector(
    listener: Listener,
    looked_at: Situation,
    candidates: Sequence[Candidate],
    wanted: Want,
    users: int | None,
    name: str | None,
) -> Fit:
    """As ``_for_users``, with the vision projectors that are here; without them where they don't fit, unless the task
    needs one."""
    from llmctl.workspace import projectors

    seeing = [projectors.with_projector(candidate, looked_at.store) for candidate in candidates]
    try:
        return _for_users(looked_at, seeing, wanted, users, name)
    except NothingFitsError as error:
        if wanted.sees or not any(candidate.projector for candidate in seeing):
            raise
        listener.warn(f"with its vision projector it doesn't fit ({error.message}); it reads no images")
        return _for_users(looked_at, candidates, wanted, users, name)


def _for_users(
    looked_at: Situation, candidates: Sequence[Candidate], wanted: Want, users: int | None, name: str | None
) -> Fit:
    """What answers so many requests at once, each in the whole context; as many as there is room for, USUAL_USERS at
    most, where ``users`` is None. Raises NothingFitsError."""
    from llmctl.workspace import choose

    for count in range(USUAL_USERS, 1, -1) if users is None else ():
        answer = choose.planned(looked_at, candidates, replace(wanted, users=count))
        if isinstance(answer, Fit):
            return answer
    answer = choose.planned(looked_at, candidates, replace(wanted, users=users or 1))
    if isinstance(answer, Fit):
        return answer
    if users is not None and users > 1:
        raise _too_many(looked_at, candidates, wanted, users, answer)
    hint = command("llmctl", "plan", "--task", wanted.task, names=[] if name is None else [name])
    raise NothingFitsError(answer.reason, hint=hint)


def _too_many(
    looked_at: Situation, candidates: Sequence[Candidate], wanted: Want, users: int, answer: NoFit
) -> NothingFitsError:
    """With how many users there is room, if with any."""
    fewer = users
    while fewer := fewer // 2:
        if not isinstance(looked_at.plan(candidates, replace(wanted, users=fewer)), NoFit):
            fits = command("llmctl", "serve", "--users", str(fewer))
            return NothingFitsError(f"for {users} users at once: {answer.reason}", hint=f"{fits} …   fits")
    return NothingFitsError(answer.reason, hint=command("llmctl", "plan", "--task", wanted.task))


def _able(candidates: Sequence[Candidate], looked_at: Situation, task: str) -> list[Candidate]:
    """Those that are for the task, all of them where none says so."""
    needs = looked_at.knowledge.tasks[task].needs
    return [candidate for candidate in candidates if needs in candidate.model.tasks] or list(candidates)


def _free_bytes(available_bytes: int) -> int:
    from llmctl.planner.memory import margin_bytes

    return max(0, available_bytes - margin_bytes(available_bytes))


def _own_task(candidates: Iterable[Candidate]) -> str | None:
    """What a model that doesn't chat is for."""
    tasks = {task for candidate in candidates for task in candidate.model.tasks}
    return next((task for task in WITHOUT_WORDS if task in tasks and "chat" not in tasks), None)


def _with_names(models: Sequence[PlannedModel]) -> list[PlannedModel]:
    """Each model once; those that are called the same by NAME:QUANT, and with a number where that is the same, too."""
    different = list({model.fit.candidate.path: model for model in models}.values())
    names = _distinct([model.name for model in different], [f"{model.name}:{model.quant}" for model in different])
    numbered = [f"{name}-{names[: at + 1].count(name)}" for at, name in enumerate(names)]
    return [replace(model, name=name) for model, name in zip(different, _distinct(names, numbered), strict=True)]


def _distinct(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The longer name for those that aren't the only ones of their name."""
    return [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]


def _pinned(models: Sequence[PlannedModel], names: Sequence[str]) -> list[PlannedModel]:
    """Raises UsageError for a name that none has."""
    for name in names:
        if not any(name in (model.name, *model.also_named) for model in models):
            served = ", ".join(model.name for model in models)
            raise UsageError(f"--pin {name}: no model of that name is served, only {served}")
    return [replace(model, pinned=any(name in (model.name, *model.also_named) for name in names)) for model in models]


def _budget(models: Sequence[PlannedModel]) -> Memory:
    """What is free of each device, without what a plan leaves of it."""
    rows = [row for model in models for row in model.fit.memory.by_device]
    return {
        row.device: max(_free_bytes(other.available_bytes) for other in rows if other.device == row.device)
        for row in rows
    }


def _require_room(models: Sequence[PlannedModel], budget: Memory) -> None:
    """Raises NothingFitsError where what is pinned does not fit together."""
    pinned = [model for model in models if model.pinned]
    if len(pinned) < 2 or _have_room(pinned, budget):
        return
    needs = {device: sum(model.memory.get(device, 0) for model in pinned) for device in budget}
    device = max(needs, key=lambda device: needs[device] - budget[device])
    names = " and ".join(model.name for model in pinned)
    raise NothingFitsError(
        f"{names} can't be pinned together: they need {units.size(needs[device])} of {device}, and "
        f"{units.size(budget[device])} are free",
        hint="llmctl serve …   with fewer --pin, or fewer --users",
    )


def _have_room(models: Sequence[PlannedModel], budget: Memory) -> bool:
    return all(sum(model.memory.get(device, 0) for model in models) <= most for device, most in budget.items())


def _auto(looked_at: Situation, models: Sequence[PlannedModel]) -> dict[str, str]:
    """For each task the best of the models, if one is for it."""
    chosen: dict[str, str] = {}
    for name, task in looked_at.knowledge.tasks.items():
        able = [model for model in models if task.needs in model.fit.candidate.model.tasks]
        if task.sees:
            able = [model for model in able if model.fit.candidate.projector is not None]
        if able:
            chosen[name] = able[0].name if len(able) == 1 else _best(looked_at, able, name)
    return chosen


def _best(looked_at: Situation, models: Sequence[PlannedModel], task: str) -> str:
    candidates = [model.fit.candidate for model in models]
    answer = looked_at.plan(
        candidates, Want(task=task, context=min(model.fit.context for model in models), explicit=True)
    )
    if isinstance(answer, NoFit):
        return models[0].name
    return next(
        (model.name for model in models if model.fit.candidate.path == answer.choice.candidate.path), models[0].name
    )
