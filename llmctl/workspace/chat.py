"""A session of chat: what answers it, by the router of every prompt, and the engine that stays loaded meanwhile."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from llmctl.engine.pool import Pool
from llmctl.errors import LlmctlError, UsageError
from llmctl.types.endpoint import LeaveReason, Local, Route
from llmctl.types.engine_name import EngineName
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit
from llmctl.types.policy import Policy
from llmctl.workspace import choose
from llmctl.workspace.local_run import Asked, LocalRun, local_run
from llmctl.workspace.session_engine import SessionEngine

if TYPE_CHECKING:
    from llmctl.router.partial_answer import PartialAnswer
    from llmctl.settings import Settings
    from llmctl.types.answer import Answer
    from llmctl.types.request import Request


class Chat:
    """Who answers the prompts of one conversation. ``asked`` is what was asked for, ``run`` what would answer here."""

    def __init__(
        self,
        listener: Listener,
        settings: Settings,
        asked: Asked,
        *,
        local: bool = False,
        private: bool = False,
        endpoint: str | None = None,
    ) -> None:
        """Raises NotFoundError for an endpoint that isn't configured."""
        self._listener = listener
        self.settings = settings
        self.asked = asked
        self.local = local
        self.private = private
        self._pinned = None if endpoint is None else settings.endpoint(endpoint)
        self.run: LocalRun | None = None
        self._engine = SessionEngine(Pool(keep_alive_s=settings.keep_alive, listener=listener))

    @property
    def is_remote_alone(self) -> bool:
        """Whether nothing on this machine may answer, so that nothing has to be planned."""
        policy = self.settings.for_task(self.asked.task).policy
        return self._pinned is not None or (policy is Policy.REMOTE_ONLY and not self.local)

    @property
    def fit(self) -> Fit | None:
        """What answers here, None if nothing does."""
        return self.run.planned if self.run is not None and isinstance(self.run.planned, Fit) else None

    @property
    def route(self) -> Route:
        """Where the next prompt goes. Raises what ``router.route`` raises."""
        from llmctl.router.route import route
        from llmctl.workspace.servers import in_turn

        settings, servers = self.settings.for_task(self.asked.task), in_turn(self.settings)
        return route(
            None if self.run is None else self.run.planned,
            settings.policy,
            servers.endpoints,
            pinned=self._pinned,
            local=self.local,
            offline=settings.offline,
            barred={} if self.run is None else self.run.barred,
            private=self.private,
            resting=servers.resting,
        )

    @property
    def hands_over_long_prompts(self) -> bool:
        """Whether a server may take what is too long for this machine."""
        chosen = self.route
        if not isinstance(chosen, Local):
            return True
        return chosen.fallback is not None and LeaveReason.PROMPT_TOO_LONG not in chosen.barred

    def begin(self, *, yes: bool) -> None:
        """Plans what answers here, unless only a server may. Raises what ``plan`` and ``route`` raise."""
        if not self.is_remote_alone:
            if self.settings.engine is not EngineName.LLAMA_SERVER:
                self._engine.prepare()  # imports the engine while we plan
            self.take(self.asked, self.plan(self.asked, yes=yes))
        _ = self.route

    def plan(self, asked: Asked, *, yes: bool = False) -> LocalRun:
        """What would answer ``asked`` here, its file fetched with consent. The engine there is ends before, so that its
        memory counts as free: ``take`` or ``keep`` goes on. Raises what ``local_run`` raises, and UsageError where only
        a server may answer."""
        if self.is_remote_alone:
            raise UsageError("a server answers this chat, so there is no model to choose", hint="/quit   llmctl chat")
        self._engine.release()
        is_by_task = asked != self.asked and asked.model is None  # a model that is set is for the task before
        settings = replace(self.settings, model=None) if is_by_task else self.settings
        settings = settings.for_task(asked.task)
        return local_run(self._listener, settings, asked, yes=yes, local=self.local or self.private)

    def take(self, asked: Asked, run: LocalRun) -> None:
        """From now on ``run`` answers. Its engine loads while the user writes; what fails is raised by the answer."""
        self.asked, self.run = asked, run
        self.keep()

    def keep(self) -> None:
        """What answers goes on; its engine is loaded again if it was ended."""
        if self.fit is not None and isinstance(self.route, Local):
            self._engine.load(self.fit)

    def answer(self, request: Request, listener: Listener, so_far: PartialAnswer) -> Answer:
        """Raises what ``router.answer`` raises; ``so_far`` then holds what was written. For the first one with
        images the model is loaded again, with its vision projector: raises what ``plan`` raises where it has none."""
        from llmctl.router.answer import answer

        if request.image_count:
            self._see()
        try:
            return answer(
                self.route,
                replace(request, prompt_cache_bytes=self.settings.prompt_cache, speculates=self.settings.speculate),
                listener=listener,
                lease=lambda fit: self._engine.lend(fit, listener),
                so_far=so_far,
                steps_down=None if self.run is None else self.run.steps_down,
                record=self.settings.history,
            )
        finally:
            if self.run is not None and so_far.fit is not None:  # it may take less than was planned
                self.run = replace(self.run, planned=so_far.fit)

    def _see(self) -> None:
        if self.asked.sees or self.fit is None:
            return
        model = self.asked.model or choose.name_of(self.fit.candidate)
        asked = replace(self.asked, model=model, sees=True)
        try:
            run = self.plan(asked)
        except LlmctlError:
            self.keep()
            raise
        self.take(asked, run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()
