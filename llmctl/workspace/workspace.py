"""``Workspace``: what llmctl does, for a Python program as for the command line."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, Unpack

from llmctl.types.listener import Listener, SilentListener

if TYPE_CHECKING:
    from llmctl.catalogue.knowledge import Knowledge, Task
    from llmctl.settings import Settings
    from llmctl.types.answer import Answer
    from llmctl.types.browser_tab import BrowserTab
    from llmctl.types.event import Event
    from llmctl.types.machine import EngineInfo, Machine
    from llmctl.types.plan import NoFit, Plan
    from llmctl.types.request import Request
    from llmctl.workspace.capacity import Capacity
    from llmctl.workspace.embed import Vector
    from llmctl.workspace.examine import Report
    from llmctl.workspace.fetch import Obtained
    from llmctl.workspace.inventory import Item
    from llmctl.workspace.models import Matches
    from llmctl.workspace.plan import Planned
    from llmctl.workspace.rerank import Ranked
    from llmctl.workspace.situation import Shelf, Situation


class Wishes(TypedDict, total=False):
    """What a plan may be asked for, as in ``types.plan.Want``. What is left out, the settings or the task decide."""

    context: int | None
    threads: int | None
    min_tok_s: float | None
    max_download_bytes: int | None
    kv_type: str | None
    gpu_layers: int | None
    repack: bool | None
    flash_attention: bool | None
    prompt_tokens: int | None
    answer_tokens: int | None
    language: str | None
    openness: str | None
    licence: str | None
    installed: bool
    tight: bool
    users: int


class Asking(TypedDict, total=False):
    """How a prompt is to be answered.

    ``model`` is a name or a file, ``yes`` the consent to fetch it. ``local``: on this machine or not at all;
    ``endpoint``: by the server of that name or not at all. The others are as ``llmctl run`` has them; ``system``,
    ``max_tokens``, ``temperature`` and ``seed`` go with a text: a ``Request`` has its own.
    """

    model: str | None
    task: str | None
    system: str | None
    context: int | None
    threads: int | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    local: bool
    endpoint: str | None
    yes: bool


class Reading(TypedDict, total=False):
    """How ``embed`` and ``rerank`` read texts: as ``workspace.encoder.EncoderOptions`` has it. Without ``model`` it is
    the best for the task; a text of more than ``context`` tokens raises ContextError unless ``truncate`` leaves its end
    out."""

    model: str | None
    context: int | None
    threads: int | None
    truncate: bool
    local: bool
    yes: bool


class Workspace:
    """This machine, the user's settings, the catalogue and the store: each is looked at once, when it is first needed.

    ``listener`` hears what happens; without one nothing is shown and nobody is asked. ``machine`` is the name of a
    described machine, or its file; ``ram_bytes``, ``vram_bytes`` and ``gpu`` say what would be if, and with ``browser``
    plans are for a tab of a browser there. ``offline``: nothing is fetched, and no server on another machine is asked.
    Every method raises the errors of ``llmctl.errors``.
    """

    def __init__(
        self,
        listener: Listener | None = None,
        *,
        offline: bool = False,
        machine: str | None = None,
        ram_bytes: int | None = None,
        vram_bytes: int | None = None,
        gpu: str | None = None,
        browser: bool = False,
    ) -> None:
        self.listener = SilentListener() if listener is None else listener
        self._offline = offline
        self._described = machine
        self._changes = {"ram_bytes": ram_bytes, "vram_bytes": vram_bytes}
        self._gpu = gpu
        self._browser = browser

    @property
    def settings(self) -> Settings:
        """The user's settings, and those of the working directory's project file."""
        return self.shelf.settings

    @cached_property
    def shelf(self) -> Shelf:
        """What there is to run, without a look at the machine."""
        from llmctl.workspace import situation

        return situation.shelf(self.listener, offline=self._offline)

    @cached_property
    def situation(self) -> Situation:
        """The shelf and the machine."""
        from llmctl.workspace import situation

        machine = self._other_machine()
        looked_at = situation.look(self.listener, machine=machine, before=self.shelf, knowledge=self._knowledge)
        if not self._browser:
            return looked_at
        from llmctl.workspace.tab_models import in_tab

        return in_tab(looked_at)

    @property
    def browser_tab(self) -> BrowserTab | None:
        """What a tab has, where plans are for one."""
        from llmctl.workspace import tab_models

        return tab_models.browser_tab() if self._browser else None

    @cached_property
    def _knowledge(self) -> Knowledge:
        from llmctl.workspace import situation

        return situation.load_knowledge()

    @property
    def machine(self) -> Machine:
        return self.situation.machine

    @property
    def engines(self) -> tuple[EngineInfo, ...]:
        return self.situation.engines

    @property
    def tasks(self) -> Mapping[str, Task]:
        """What a model can be chosen for, by name."""
        return self._knowledge.tasks

    def probe(self) -> Machine:
        """What the machine is. The first time on a machine the engine's kernels are measured, some two seconds."""
        return self.machine

    def doctor(self) -> Report:
        """What the machine is now, and what to mend. Servers of the user's are asked whether they answer, unless the
        policy is local-only."""
        from llmctl.workspace.examine import examine

        return examine(self.listener)

    def models(self) -> list[Item]:
        """The models on this machine, whoever holds them."""
        return self.shelf.items()

    def search(self, words: Sequence[str]) -> Matches:
        """The models of the catalogue that all ``words`` are true of. Raises NotFoundError if none is called that, or
        nearly that."""
        from llmctl.workspace.models import search

        return search(self.listener, words)

    def plan(self, model: str | None = None, *, task: str | None = None, **wishes: Unpack[Wishes]) -> Plan | NoFit:
        """What would run on the machine, how fast and in how much memory; with ``model`` (a name, a file or a
        repository) how that would."""
        return self.planned(model, task=task, **wishes).answer

    def planned(self, model: str | None = None, *, task: str | None = None, **wishes: Unpack[Wishes]) -> Planned:
        """As ``plan``, with what was planned for."""
        from msgspec.structs import replace

        from llmctl.workspace import situation
        from llmctl.workspace.plan import plan_named

        self.shelf.require(model)  # before the machine is looked at, and its kernels are measured
        if task is not None:
            self._knowledge.require_task(task)
        wanted = situation.want(
            self.settings,
            context=wishes.pop("context", None),
            threads=wishes.pop("threads", None),
            min_tok_s=wishes.pop("min_tok_s", None),
        )
        return plan_named(self.situation, model, replace(wanted, **wishes), task=task)

    def capacity(self, planned: Planned, machines: int, *, users: int) -> Capacity:
        """How many of ``users`` so many machines serve with the plan's choice, which there must be."""
        from llmctl.types.plan import Plan
        from llmctl.workspace.capacity import capacity

        assert isinstance(planned.answer, Plan), "there is a choice"
        return capacity(self.situation, planned.answer, planned.want, machines, users=users)

    def pull(
        self,
        model: str,
        *,
        revision: str | None = None,
        sha256: str | None = None,
        limit_bytes_per_s: float | None = None,
    ) -> Obtained:
        """The model's files on this machine, fetched and verified if they are not here; ``path`` is the one to open.

        ``model`` is whatever ``llmctl pull`` takes. Calling this is the consent to the download.
        """
        from llmctl.workspace import fetch

        return fetch.obtain(fetch.FetchRequest(self.listener, self.shelf, revision, sha256, limit_bytes_per_s), model)

    def ask(self, prompt: str | Request, **asking: Unpack[Asking]) -> Answer:
        """The answer to a prompt, with what it took and what left this machine. See ``Asking``.

        The best model on this machine answers unless another is asked for. What leaves is decided by the settings, as
        for ``llmctl run``. Raises NotFoundError where a model would have to be fetched, and nobody said yes.
        """
        from llmctl.types.answer import Answer

        *_, answer = self.stream(prompt, **asking)
        assert isinstance(answer, Answer), "the last event is the answer"
        return answer

    def stream(
        self,
        prompt: str | Request,
        *,
        model: str | None = None,
        task: str | None = None,
        system: str | None = None,
        context: int | None = None,
        threads: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        local: bool = False,
        endpoint: str | None = None,
        yes: bool = False,
    ) -> Generator[Event | Answer, None, None]:
        """As ``ask``: the bits of the answer as they come, and at last the ``Answer``. Closing it ends the engine's
        work, or hangs up."""
        from llmctl.types.request import Message, Request, Sampling
        from llmctl.workspace import ask
        from llmctl.workspace.local_run import Asked, local_run

        if isinstance(prompt, str):
            instructions = (Message.of("system", system),) if system else ()
            sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
            prompt = Request((*instructions, Message.of("user", prompt)), sampling=sampling)
        request = prompt
        tokens, most = ask.estimated_tokens(request), request.sampling.max_tokens
        asked = Asked(model, task, context, threads, tokens, most, sees=request.image_count > 0, once=True)
        must_stay, settings = local or request.private, self.settings.for_task(task)
        yield (
            yield from ask.events(
                self.listener,
                settings,
                request,
                lambda: local_run(self.listener, settings, asked, yes=yes, local=must_stay),
                local=local,
                endpoint=endpoint,
            )
        )

    def embed(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        dimensions: int | None = None,
        normalise: bool = True,
        **reading: Unpack[Reading],
    ) -> list[Vector]:
        """The vector of each text, as ``llmctl embed`` makes it; ``role`` is query or document. No text leaves this
        machine. See ``Reading``."""
        from llmctl.types.role import Role
        from llmctl.workspace.embed import VectorOptions, vectors
        from llmctl.workspace.encoder import EncoderOptions
        from llmctl.workspace.texts import gathered

        shape = VectorOptions(None if role is None else Role(role), dimensions, normalise)
        given = gathered(texts, (), None)
        return list(vectors(self.listener, self.settings, given, EncoderOptions(**reading), shape))

    def rerank(
        self, query: str, documents: Sequence[str], *, most: int | None = None, **reading: Unpack[Reading]
    ) -> list[Ranked]:
        """The documents that answer the query best, ``most`` of them, the best first. Nothing leaves this machine. See
        ``Reading``."""
        from llmctl.workspace.encoder import EncoderOptions
        from llmctl.workspace.rerank import ranking
        from llmctl.workspace.texts import gathered

        given = gathered(documents, (), None)
        return list(ranking(self.listener, self.settings, query, given, EncoderOptions(**reading), most=most).results)

    def _other_machine(self) -> Machine | None:
        """The machine that is meant where it is not this one as it is."""
        from llmctl.workspace.machine import described

        if self._described is None and self._gpu is None and not any(self._changes.values()):
            return None
        return described(self.listener, self._described, gpu=self._gpu, **self._changes)
