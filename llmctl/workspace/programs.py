"""An engine on this machine for other programs: its address, the key to it, and the model's name there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl import units
from llmctl.errors import NothingFitsError, ResourceError
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit, NoFit, RejectionCode, Want

if TYPE_CHECKING:
    from llmctl.engine.warm.entry import Entry
    from llmctl.settings import Settings
    from llmctl.types.engine import LoadedEngine
    from llmctl.workspace.local_run import Asked
    from llmctl.workspace.situation import Situation

STAYS_S = 1800.0  # where the settings let no engine stay: whoever asks for an address is about to use it
PASSAGE_BYTES = 24 << 10  # an embedder's context is made for passages of so many, unless one is asked for
SLOWER = (2, 4, 8, 16, 32)  # times as slow as the task wants it: tried one after the other
ENCODERS = ("embed", "rerank")
NO_KEY = "none"  # where a gateway asks for none, and a program has to send one


class EngineAccess(Struct, frozen=True):
    """What a program needs to use an engine by OpenAI's API. ``keep_alive_s``: how long the engine stays without a use,
    None for ever; ``was_warm``: whether it had been loaded before. ``anthropic_base_url`` is where Anthropic's API is
    spoken, too: by a gateway of `llmctl serve`, not by an engine."""

    base_url: str
    api_key: str
    model: str
    quant: str
    context: int
    keep_alive_s: float | None
    was_warm: bool
    anthropic_base_url: str | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"EngineAccess({self.base_url!r}, {self.model!r}, {self.quant!r})"

    @property
    def name(self) -> str:
        return f"{self.model}:{self.quant}"


class ProgramPlan(Struct, frozen=True):
    """What would run for a program; ``unsuited`` says which floors or limits of the task it misses, None if none."""

    situation: Situation
    want: Want
    fit: Fit
    unsuited: str | None


def access(listener: Listener, settings: Settings, asked: Asked, *, insist: bool, yes: bool) -> EngineAccess:
    """A gateway that runs, or the engine that stays and was used last, of those that are what was asked for; else one
    that is started, and stays for as long as the settings say, or STAYS_S. ``insist``: the settings' time was asked for
    by name.

    Raises ResourceError where no engine can stay, NothingFitsError, and what ``choose`` and ``Pool.lease`` raise.
    """
    _require_place()
    if (gateway := of_gateway(asked, settings.task)) is not None:
        return gateway
    if asked.task is None and (warm := _last_used(asked, settings.keep_alive if insist else None)) is not None:
        return warm
    keep_alive_s = settings.keep_alive or STAYS_S
    fit = _encoder(listener, settings, asked, yes=yes)
    if fit is None:
        fit = obtained(listener, planned(listener, settings, asked), asked, yes=yes)
    with lent(listener, fit, keep_alive_s=keep_alive_s, insist=insist) as engine:
        return engine


def of_gateway(asked: Asked, task: str) -> EngineAccess | None:
    """A gateway of this user that runs, serves what was asked for and lets this user's programs in; None where there is
    none. Without a model it is the gateway's for ``task``, or its first."""
    from llmctl.workspace import gateways

    for gateway in gateways.running():
        model = gateway.serves(asked.model) if asked.model is not None else gateway.model_for(task, asked.task)
        if model is None or model.context < (asked.context or 0) or not gateway.admits_programs:
            continue
        url, key = gateway.address, gateway.key or NO_KEY
        host = url.removesuffix("/v1")
        return EngineAccess(url, key, model.name, model.quant, model.context, None, True, anthropic_base_url=host)
    return None


def planned(listener: Listener, settings: Settings, asked: Asked) -> ProgramPlan:
    """What suits this machine, of what was asked for; where all is too slow for the task, the best of what is least so.
    Raises NothingFitsError, and what ``choose.choose`` raises."""
    from llmctl.workspace import choose, situation
    from llmctl.workspace.local_run import runnable

    name = asked.model or settings.model
    shelf = situation.shelf(listener, loaded=settings)
    at_hand = any(candidate.path for candidate in shelf.candidates(name))
    looked_at = situation.look(listener, before=shelf, measure=not at_hand)
    wanted = runnable(listener, looked_at, asked, asked.want(settings, named=name is not None))
    answer = choose.choose(looked_at, name, wanted)
    for slower in SLOWER if name is None else ():
        if not _is_slow(answer):
            break
        answer = choose.choose(looked_at, name, replace(wanted, min_tok_s=_floor_tok_s(looked_at, wanted) / slower))
    if isinstance(answer, NoFit):
        hint = command("llmctl", "plan", "--task", wanted.task, names=[] if name is None else [name])
        raise NothingFitsError(answer.reason, hint=hint)
    return ProgramPlan(looked_at, wanted, answer, _unsuited(looked_at, wanted, answer))


def obtained(listener: Listener, plan: ProgramPlan, asked: Asked, *, yes: bool) -> Fit:
    """What was planned, its file on this machine, fetched with consent if need be. Raises what ``choose.obtain`` and
    ``with_server`` raise."""
    from llmctl.workspace import choose
    from llmctl.workspace.engine import with_server

    named = (asked.model or plan.situation.settings.model) is not None
    fit = choose.obtain(listener, plan.situation, plan.fit, plan.want, named=named, yes=yes)
    for warning in fit.warnings:
        listener.warn(warning)
    return with_server(listener, plan.situation, fit)


@contextmanager
def lent(listener: Listener, fit: Fit, *, keep_alive_s: float, insist: bool) -> Iterator[EngineAccess]:
    """An engine that no other command ends while the context lasts. Raises what ``Pool.lease`` raises."""
    from llmctl.engine.pool import Pool

    pool = Pool(keep_alive_s=keep_alive_s, insist=insist, listener=listener)
    with pool, pool.lease(fit) as engine:
        listener.loaded(fit, engine)
        yield _access(fit, engine)


def _access(fit: Fit, engine: LoadedEngine) -> EngineAccess:
    from llmctl.engine.warm.engine import WarmEngine

    about = engine.file.read() if isinstance(engine, WarmEngine) else None
    if about is not None:
        return _of_entry(about, was_warm=engine.was_warm)
    address, quant = engine.address, fit.candidate.artifact.quant
    return EngineAccess(address.url, address.token or "", address.model, quant, fit.context, 0.0, was_warm=False)


def _of_entry(about: Entry, *, was_warm: bool) -> EngineAccess:
    return EngineAccess(
        base_url=about.address or "",
        api_key=about.token,
        model=about.model,
        quant=about.quant,
        context=about.context,
        keep_alive_s=about.keep_alive_s,
        was_warm=was_warm,
    )


def _last_used(asked: Asked, keep_alive_s: float | None) -> EngineAccess | None:
    """Of the engines that stay; it gets ``keep_alive_s`` if that is given."""
    from llmctl.engine.warm import entry, reuse

    folder = entry.folder()
    for path, about in sorted(reuse.living(folder), key=lambda pair: entry.idle_s(pair[0])):
        engine = reuse.adopted(path) if _is_meant(about, asked) else None
        if engine is None:
            continue
        if keep_alive_s is not None:
            engine.stay_for(None if math.isinf(keep_alive_s) else keep_alive_s)
        about = engine.file.read() or about
        engine.let_go()
        return _of_entry(about, was_warm=True)
    return None


def _is_meant(about: Entry, asked: Asked) -> bool:
    if about.context < (asked.context or 0):
        return False
    if asked.model is None:
        return about.ready is not None and about.ready.has_chat_template
    return asked.model in (about.model, f"{about.model}:{about.quant}")


def _encoder(listener: Listener, settings: Settings, asked: Asked, *, yes: bool) -> Fit | None:
    """The model that was named, or the best for the task, where that writes nothing; None for one that writes."""
    from llmctl.workspace import encoder, situation

    task = asked.task if asked.task in ENCODERS else None
    if task is None and asked.model is not None and asked.task is None:
        candidates = situation.shelf(listener, loaded=settings).candidates(asked.model)
        tasks = {task for candidate in candidates for task in candidate.model.tasks}
        task = next((task for task in ENCODERS if task in tasks and "chat" not in tasks), None)
    if task is None:
        return None
    options = encoder.EncoderOptions(asked.model, asked.context, asked.threads, local=True, yes=yes)
    return encoder.chosen(listener, settings, task, options, PASSAGE_BYTES)


def _is_slow(answer: Fit | NoFit) -> bool:
    return isinstance(answer, NoFit) and answer.nearest is not None and answer.nearest.code is RejectionCode.SPEED


def _floor_tok_s(situation: Situation, wanted: Want) -> float:
    return wanted.min_tok_s or situation.knowledge.tasks[wanted.task].min_tok_s


def _unsuited(situation: Situation, wanted: Want, fit: Fit) -> str | None:
    from llmctl.planner import limits
    from llmctl.planner.judge import Judge

    task = situation.knowledge.tasks[wanted.task]
    judge = Judge(situation.machine, wanted, task, situation.knowledge)
    weak = None if fit.grade is None else limits.too_weak(task, fit.grade)  # of the user's own files nothing is known
    slow = judge.too_slow(fit)
    reasons = [] if weak is None else [weak.reason]
    if slow is not None:
        turn, prompt = units.seconds(judge.answer_s(fit)), units.seconds(fit.speed_model.prefill_s(task.prompt_tokens))
        reasons.append(
            f"{slow.rejected.reason}: a first turn would take {turn}, {prompt} of it for a prompt of "
            f"{task.prompt_tokens:,} tokens"
        )
    return "; it ".join(reasons) or None


def _require_place() -> None:
    """Raises ResourceError where no engine can stay."""
    if os.name != "posix":
        raise ResourceError("no engine can stay on this system: it ends with the command that has started it")
    from llmctl.engine.warm import entry

    entry.folder()
