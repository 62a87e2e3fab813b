"""What most verbs begin with: the settings, this machine, the catalogue and the store, looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmctl import catalogue, paths, planner, settings
from llmctl.catalogue import Catalogue, Knowledge
from llmctl.cli.output import Output
from llmctl.engine import devices, kernels
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.settings import Settings
from llmctl.store import Store
from llmctl.types.machine import EngineInfo, Machine
from llmctl.types.model import Candidate
from llmctl.types.plan import NoFit, Plan, Want


@dataclass(frozen=True)
class Shelf:
    """What there is to run, without a look at the machine."""

    settings: Settings
    known: Catalogue
    store: Store

    def candidates(self, name: str | None) -> list[Candidate]:
        """All of the catalogue, the quants of one model, or one local file. Raises NotFoundError, IntegrityError."""
        if name is not None and (name.endswith(".gguf") or "/" in name or Path(name).is_file()):
            return [catalogue.from_file(Path(name))]
        return list(catalogue.candidates(self.known, name, find=self.store.find))


@dataclass(frozen=True)
class Situation(Shelf):
    machine: Machine
    engines: tuple[EngineInfo, ...]
    knowledge: Knowledge

    def plan(self, candidates: Sequence[Candidate], want: Want) -> Plan | NoFit:
        return planner.plan(self.machine, candidates, want, self.knowledge)


def shelf(out: Output) -> Shelf:
    loaded = settings.load()
    known = catalogue.load(paths.profiles_dir() / "models", overlay=paths.overlay_dir())
    for problem in known.problems:
        out.warn(str(problem))
    return Shelf(loaded, known, Store())


def look(
    out: Output, *, machine: Machine | None = None, before: Shelf | None = None, measure: bool = True
) -> Situation:
    """This machine, or ``machine`` in its place; ``before`` is the shelf if it was looked at before."""
    there = before or shelf(out)
    engines: tuple[EngineInfo, ...] = ()
    if machine is None:
        machine, engines = this_machine(out, measure=measure)
    knowledge = catalogue.load_knowledge(paths.profiles_dir())
    return Situation(there.settings, there.known, there.store, machine, engines, knowledge)


def this_machine(
    out: Output, *, measure: bool = True, thorough: bool = False, again: bool = False
) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """This machine and its engines, the speed of the engine's kernels included.

    With ``measure`` that is measured, and told on stderr, when nothing is known of it yet; with ``thorough`` also when
    it is incomplete because the machine was busy then; with ``again`` in any case, and then failing is an EngineError.
    """
    host = Host()
    machine, engines = devices.this_machine(host, store=paths.hub_cache())
    usable = next((engine for engine in engines if engine.usable), None)
    known = kernels.complete(machine.kernels) if thorough else bool(machine.kernels)
    if usable is None or not measure or (known and not again):
        return machine, engines
    out.note("Measuring the engine's kernels, some two seconds, once per machine …")
    try:
        return devices.with_engine(machine, engines, kernels.measure(host, machine, usable, again=again)), engines
    except EngineError as error:
        if again:
            raise
        out.warn(error.message)
        return machine, engines


def want(
    loaded: Settings,
    *,
    task: str | None = None,
    context: int | None = None,
    threads: int | None = None,
    min_tok_s: float | None = None,
) -> Want:
    """What is asked for: flags above settings above the task's defaults, which the planner knows."""
    return Want(
        task=task or loaded.task,
        context=context or loaded.context,
        threads=threads or loaded.threads,
        min_tok_s=loaded.min_tok_s if min_tok_s is None else min_tok_s,
    )
