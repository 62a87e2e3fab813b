"""One model behind a gateway: its plan, what it is doing, and its loan to a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from msgspec import Struct

from llmctl.catalogue import openness
from llmctl.errors import DecodingError, LlmctlError
from llmctl.types.endpoint import Address
from llmctl.types.model import Model
from llmctl.types.plan import Fit
from llmctl.types.served import ModelState, ServedModel
from llmctl.workspace.served_engine import RunningEngine
from llmctl.workspace.served_room import LEAST_STAY_S, Held, Memory


class ServingTiming(Struct, frozen=True):
    """Seconds. ``look_s``: how often one that waits looks whether its client is still there; ``watch_s``: how often it
    is looked for engines that were idle for too long, or have died; ``idle_s``: for how long a model stays without a
    request, None for ever; ``least_stay_s`` as in ``served_room``; ``retry_s``: when one that was refused may ask
    again."""

    look_s: float = 0.2
    watch_s: float = 1.0
    idle_s: float | None = None
    least_stay_s: float = LEAST_STAY_S
    retry_s: int = 5


class ServableModel(Protocol):
    """A model that a gateway may load, by whatever engine: ``model`` as the catalogue has it, ``size_bytes`` of its
    files, ``decode_tok_s`` as planned. ``memory`` counts beside that of the gateway's others; ``defaults`` is asked of
    the engine unless the client says otherwise."""

    @property
    def name(self) -> str: ...
    @property
    def quant(self) -> str: ...
    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def also_named(self) -> tuple[str, ...]: ...
    @property
    def users(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def writes(self) -> bool: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def model(self) -> Model: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def decode_tok_s(self) -> float | None: ...
    @property
    def defaults(self) -> Mapping[str, Any]: ...


StartEngine = Callable[[ServableModel], RunningEngine]
"""Loads a model. Raises LlmctlError."""


class PlannedModel(Struct, frozen=True):
    """A model that may be asked for by ``name``. ``fit`` is planned for all of its users, its file is on this machine;
    ``also_named`` are other names for it; ``tasks``: it answers what is asked of ``auto:TASK``."""

    name: str
    fit: Fit
    tasks: tuple[str, ...] = ()
    also_named: tuple[str, ...] = ()
    users: int = 1
    pinned: bool = False
    writes: bool = True

    @property
    def quant(self) -> str:
        return self.fit.candidate.artifact.quant

    @property
    def context(self) -> int:
        return self.fit.context

    @property
    def memory(self) -> Memory:
        return {row.device: row.total_bytes for row in self.fit.memory.by_device}

    @property
    def memory_bytes(self) -> int:
        return self.fit.memory.must_fit_bytes

    @property
    def model(self) -> Model:
        return self.fit.candidate.model

    @property
    def size_bytes(self) -> int:
        return self.fit.candidate.artifact.bytes

    @property
    def decode_tok_s(self) -> float | None:
        return round(self.fit.speed.decode_tok_s, 2) if self.writes else None

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the publisher recommends, and thinking as the plan has counted on."""
        if not self.writes:
            return {}
        recommended = dict(self.model.sampling or {})
        return {**recommended, "chat_template_kwargs": {"enable_thinking": self.fit.thinking}}


@dataclass(eq=False)
class WaitingTurn:
    """A request that waits."""

    number: int
    client: str
    failures: int  # of its model when it came


@dataclass(eq=False)
class ModelInService:
    """What becomes of a planned model while the gateway runs. Whoever has the gateway's lock may change it.
    ``is_ending``: its engine ends, and still holds its memory. ``clients``: whose requests it answers; ``turns``: those
    that wait; ``lent_s``: when each client got the model last; ``failures`` counts the times that it could not be
    loaded, ``failure`` is the last."""

    plan: ServableModel
    state: ModelState = ModelState.UNLOADED
    engine: RunningEngine | None = None
    is_ending: bool = False
    clients: list[str] = field(default_factory=list)
    turns: list[WaitingTurn] = field(default_factory=list)
    lent_s: dict[str, float] = field(default_factory=dict)
    loaded_s: float = 0.0
    used_s: float = 0.0
    failures: int = 0
    failure: LlmctlError | None = None

    @property
    def holds_memory(self) -> bool:
        return self.is_ending or self.state in (ModelState.LOADING, ModelState.LOADED)

    @property
    def held(self) -> Held:
        return Held(
            self.plan.name,
            self.plan.memory,
            self.loaded_s,
            self.used_s,
            is_busy=bool(self.clients) or self.is_ending or self.state is ModelState.LOADING,
            is_pinned=self.plan.pinned,
        )

    @property
    def next_turn(self) -> WaitingTurn | None:
        """That of the client that has the fewest requests answered now, then of the one that was lent the model longest
        ago, then the one that came first."""
        return min(self.turns, key=self._order, default=None)

    def _order(self, turn: WaitingTurn) -> tuple[int, float, int]:
        return self.clients.count(turn.client), self.lent_s.get(turn.client, 0.0), turn.number

    @property
    def shown(self) -> ServedModel:
        plan = self.plan
        return ServedModel(
            name=plan.name,
            quant=plan.quant,
            tasks=plan.tasks,
            context=plan.context,
            users=plan.users,
            memory_bytes=plan.memory_bytes,
            state=self.state,
            in_use=len(self.clients),
            waiting=len(self.turns),
            pinned=plan.pinned,
            writes=plan.writes,
            size_bytes=plan.size_bytes,
            decode_tok_s=plan.decode_tok_s,
            openness=openness.highest(plan.model),
            licence=plan.model.licence,
        )


class Lease:
    """A loaded model, for one request. A context manager: leaving it gives the model back."""

    def __init__(self, model: ModelInService, engine: RunningEngine, give_back: Callable[[], None]) -> None:
        self.address: Address = engine.address
        self.model: ServedModel = model.shown
        self.sampling: Mapping[str, Any] = model.plan.defaults
        self._engine = engine
        self._give_back = give_back
        self._closing = threading.Lock()
        self._is_closed = False

    def failure(self, error: Exception) -> LlmctlError:
        """Why the engine broke off with ``error``, which is ``error`` where it failed and lives; the next lease loads
        the model again. Takes seconds at most."""
        if isinstance(error, DecodingError) and self._engine.is_alive:
            self._engine.end()
            return error
        return self._engine.death()

    def close(self) -> None:
        with self._closing:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def names_of(plans: Sequence[ServableModel]) -> Mapping[str, str]:
    """Name -> the name that it is listed by; of several models that are called the same the first is meant."""
    names = {plan.name: plan.name for plan in plans}
    for plan in plans:
        for name in plan.also_named:
            names.setdefault(name, plan.name)
    return names
