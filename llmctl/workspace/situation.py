"""What most verbs begin with: the settings, this machine, the catalogue and the store, looked at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.address import without_secrets
from llmctl.catalogue import Catalogue
from llmctl.errors import ConfigError, IntegrityError, NetworkError, NotFoundError, UnsupportedFileError, UsageError
from llmctl.settings import Settings
from llmctl.shell import command
from llmctl.store import Store
from llmctl.store.layout import Repository
from llmctl.types.listener import Listener
from llmctl.types.model import Candidate, SourceKind
from llmctl.workspace import configuration, inventory, reference
from llmctl.workspace.inventory import Item
from llmctl.workspace.reference import CatalogueName, HubModel, LocalFile, Reference, WebFile

if TYPE_CHECKING:
    from llmctl.catalogue import Knowledge
    from llmctl.planner import Allocations
    from llmctl.probe.load import Moment
    from llmctl.types.machine import EngineInfo, Machine
    from llmctl.types.past import PastRun
    from llmctl.types.plan import NoFit, Plan, Want

BRANCH = "main"  # of a repository, unless another revision is named


class Shelf(Struct, frozen=True):
    """What there is to run, without a look at the machine."""

    settings: Settings
    catalogue: Catalogue
    store: Store

    def candidates(self, name: str | None) -> list[Candidate]:
        """All there is, the quants of one model, or one local file; a name that isn't the catalogue's may be that of a
        model on this machine, whoever holds it. Raises NotFoundError, IntegrityError."""
        if name is None:
            return list(catalogue.candidates(self.catalogue, None, find=self.store.find))
        meant = self.meant(name)
        if isinstance(meant, LocalFile):
            return [catalogue.from_file(meant.path)]
        if isinstance(meant, WebFile):
            address = without_secrets(meant.url)
            fetches = command("llmctl", "pull", "--sha256", "HEX", names=[address])
            raise UsageError(f"{address} is an address, and no model on this machine", hint=f"{fetches}   fetches it")
        try:
            return list(catalogue.candidates(self.catalogue, meant.name, find=self.store.find))
        except NotFoundError as error:
            return self._held(name, meant, error)

    def meant(self, name: str) -> Reference:
        """What the user means by ``name``. Raises UsageError for what names nothing."""
        return reference.parse(name, self.settings.hub_url)

    def items(self) -> list[Item]:
        """The models on this machine."""
        return inventory.inventory(self.store.list(), self.catalogue)

    def _held(self, name: str, meant: CatalogueName | HubModel, error: NotFoundError) -> list[Candidate]:
        """What is on this machine by that name, as it was typed (ollama's names may begin with a host) or meant."""
        every = self.items()
        items = [item for item in every if item.answers_to(name)]
        items += [
            item for item in every if item not in items and item.answers_to(meant.name) and self._is_of(item, meant)
        ]
        items = [item for item in items if not (item.projector or item.missing)]
        if items:
            return self._of_items(items)
        file = f"./{name}"
        if os.path.exists(file):  # noqa: PTH110  pathlib's raises on long names
            error.hint = f"{command(file)}   for the file of that name here"
        if isinstance(meant, HubModel):
            hint = command("llmctl", "pull", names=[meant.name])
            raise NotFoundError(f"{meant.name} is not on this machine", hint=hint) from error
        raise error

    def _is_of(self, item: Item, meant: CatalogueName | HubModel) -> bool:
        """Whether a file is of the revision that was named, if one was."""
        if isinstance(meant, CatalogueName) or meant.revision in (None, BRANCH):
            return True
        commit = Repository(self.store.hub, meant.repo).commit(meant.revision)
        return item.files[0].source.revision == commit

    def _of_items(self, items: Sequence[Item]) -> list[Candidate]:
        """Those of a model's files that hold a sound language model. Raises the first error where none does."""
        made: list[Candidate] = []
        refused: list[IntegrityError | UnsupportedFileError] = []
        for item in items:
            try:
                made.append(_as(item, catalogue.from_file(item.path)))
            except (IntegrityError, UnsupportedFileError) as error:
                refused.append(error)
        if refused and not made:
            raise refused[0]
        self.tell_refused(refused)
        return made

    def require(self, name: str | None) -> None:
        """Raises NotFoundError, UsageError or IntegrityError where nothing here has that name; the hub may have it."""
        if name is not None and not isinstance(self.meant(name), HubModel):
            self.candidates(name)

    def tell_refused(self, refused: Sequence[IntegrityError | UnsupportedFileError]) -> None:
        """Files that were passed over beside others: there is nobody to be told."""


class Situation(Shelf, frozen=True):
    """``elsewhere``: the machine is not this one, so what is stored here is not stored there. ``past`` is what ran here
    and teaches how fast the next will be. ``begun`` has the kernel's counters of when this machine was looked at."""

    listener: Listener
    machine: Machine
    engines: tuple[EngineInfo, ...]
    knowledge: Knowledge
    elsewhere: bool = False
    past: tuple[PastRun, ...] = ()
    begun: Moment | None = None

    def candidates(self, name: str | None, *, ask_hub: bool = True) -> list[Candidate]:
        """With ``ask_hub``, org/name is all that the hub has in that repository, and org/name:QUANT what it has by that
        name, unless it is here. Raises what ``store.hub_models`` raises, too."""
        meant = None if name is None else self.meant(name)
        if ask_hub and isinstance(meant, HubModel):
            candidates = self._of_hub(name or "", meant)
        else:
            candidates = super().candidates(name)
        if not self.elsewhere:
            return candidates
        return [
            candidate if candidate.artifact.source.kind is SourceKind.LOCAL else replace(candidate, path=None)
            for candidate in candidates
        ]

    def _of_hub(self, name: str, meant: HubModel) -> list[Candidate]:
        from llmctl.workspace import remote_models

        try:
            stored = super().candidates(name)
        except NotFoundError:
            stored = []
        if stored and meant.wanted and not self.elsewhere:
            return stored
        try:
            offered = remote_models.candidates(
                self.store, meant.repo, meant.wanted, self.settings, revision=meant.revision or BRANCH
            )
        except NetworkError as error:
            if not stored:
                raise
            self.listener.warn(f"{error.message}; only what is on this machine is shown")
            return stored
        self.tell_refused(offered.refused)
        if offered.stale is not None:
            self.listener.warn(f"{offered.stale.message}; {meant.repo} is shown as it was when it was asked last")
        return list(offered.candidates)

    def tell_refused(self, refused: Sequence[IntegrityError | UnsupportedFileError]) -> None:
        for error in refused:
            self.listener.warn(error.message)

    def plan(self, candidates: Sequence[Candidate], want: Want, allocations: Allocations | None = None) -> Plan | NoFit:
        from llmctl import planner
        from llmctl.workspace import last_pick

        last = None if self.elsewhere else last_pick.read(self.machine, candidates, want)
        want = replace(want, architectures=self.loadable(candidates))
        return planner.plan(self.machine, candidates, want, self.knowledge, allocations, self.past, last)

    def pick(self, candidates: Sequence[Candidate], want: Want) -> Plan | NoFit:
        """As ``plan``, and the choice is the last pick from now on."""
        answer = self.plan(candidates, want)
        self.keep(candidates, want, answer)
        return answer

    def keep(self, candidates: Sequence[Candidate], want: Want, answer: Plan | NoFit) -> None:
        """Makes the choice of ``answer`` the last pick, which the next plan for the same wish keeps to."""
        from llmctl.workspace import last_pick

        if not self.elsewhere:
            last_pick.keep(self.machine, candidates, want, answer)

    def loadable(self, candidates: Sequence[Candidate]) -> frozenset[str] | None:
        """The candidates' architectures that the engine here can load, None if that isn't known."""
        from llmctl.engine import devices
        from llmctl.engine.devices import architectures
        from llmctl.host import Host

        if not self.elsewhere and devices.startable(self.engines) is None:
            return None
        names = {candidate.model.shape.architecture for candidate in candidates}
        return architectures.loadable(Host(), names, also={model.shape.architecture for model in self.catalogue.models})


def _as(item: Item, candidate: Candidate) -> Candidate:
    """A file by the name and quant that it goes by on this machine; the rest is what its header says."""
    artifact = replace(candidate.artifact, quant=item.quant)
    return replace(candidate, model=replace(candidate.model, id=item.name, artifacts=(artifact,)), artifact=artifact)


def load_catalogue(listener: Listener) -> Catalogue:
    """The catalogue; what is wrong in it is a warning."""
    loaded = catalogue.load(paths.profiles_dir() / "models", overlay=paths.overlay_dir())
    for problem in loaded.problems:
        listener.warn(str(problem))
    return loaded


def shelf(listener: Listener, *, offline: bool = False, loaded: Settings | None = None) -> Shelf:
    """``offline``: the flag, which wins over whatever is set; ``loaded``: the settings if they were loaded before.
    Raises ResourceError if the store's disk is missing."""
    loaded, store = loaded or configuration.load(listener), Store()
    store.require_disks()
    return Shelf(replace(loaded, offline=loaded.offline or offline), load_catalogue(listener), store)


def look(
    listener: Listener,
    *,
    machine: Machine | None = None,
    before: Shelf | None = None,
    measure: bool = True,
    every_kernel: bool = False,
    knowledge: Knowledge | None = None,
    task: str | None = None,
) -> Situation:
    """This machine, or ``machine`` in its place; ``before`` is the shelf if it was looked at before. With ``measure``
    the usual kernels are measured if they are not known, all of them with ``every_kernel``. Raises UsageError for a
    ``task`` that isn't one, ConfigError where it is that of the settings, both before anything is measured."""
    from llmctl.engine.measure.kernels import WEIGHT_TYPES, changed
    from llmctl.host import Host
    from llmctl.probe.load import moment
    from llmctl.workspace.engines import with_idle_engines_ended
    from llmctl.workspace.machine import this_machine

    looked_at = before or shelf(listener)
    knowledge = knowledge or load_knowledge()
    if task is not None:
        knowledge.require_task(task)
    if looked_at.settings.task not in knowledge.tasks:
        given = f"the task in LLMCTL_TASK or a configuration file is {looked_at.settings.task!r}"
        raise ConfigError(f"{given}, it must be one of {', '.join(knowledge.tasks)}")
    elsewhere = machine is not None
    begun = None if elsewhere else moment(Host())
    engines: tuple[EngineInfo, ...] = ()
    if machine is None:
        weight_types = WEIGHT_TYPES if every_kernel else ()
        machine, engines = this_machine(listener, measure=measure, weight_types=weight_types)
        machine = with_idle_engines_ended(machine)
    past = () if elsewhere or not looked_at.settings.history else _past(machine, engines)
    if measure and changed(machine.kernels, past) is not None:
        machine, engines = this_machine(listener, has_changed=True)
        machine = with_idle_engines_ended(machine)
    return Situation(
        looked_at.settings,
        looked_at.catalogue,
        looked_at.store,
        listener,
        machine,
        engines,
        knowledge,
        elsewhere,
        past,
        begun,
    )


def load_knowledge() -> Knowledge:
    """The tasks, and what is known of quality and openness. Raises ConfigError."""
    return catalogue.load_knowledge(paths.profiles_dir())


def _past(machine: Machine, engines: tuple[EngineInfo, ...]) -> tuple[PastRun, ...]:
    from llmctl.engine import devices, history

    engine = devices.startable(engines)
    return () if engine is None else history.past(history.read(), devices.build(engine))


def want(
    loaded: Settings,
    *,
    task: str | None = None,
    context: int | None = None,
    threads: int | None = None,
    min_tok_s: float | None = None,
    explicit: bool = False,
    users: int = 1,
) -> Want:
    """What is asked for: flags above settings above the task's defaults, which the planner knows. ``explicit``: a
    model or file was named."""
    from llmctl.types.plan import Want

    return Want(
        task=task or loaded.task,
        context=context or loaded.context,
        threads=threads or loaded.threads,
        min_tok_s=loaded.min_tok_s if min_tok_s is None else min_tok_s,
        explicit=explicit,
        users=users,
    )
