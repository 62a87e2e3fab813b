"""The models behind one address: loaded on demand, ended when idle or when another needs their memory, lent to
requests.

Thread-safe. What waits does so in threads of its caller; ``lease_now`` and ``listed`` never wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self

from llmctl import units
from llmctl.errors import (
    DrainingError,
    EngineError,
    LlmctlError,
    NotFoundError,
    OccupiedError,
    ResourceError,
)
from llmctl.near import did_you_mean, near
from llmctl.types.listener import Listener
from llmctl.types.served import Health, ModelState, ServedModel
from llmctl.workspace.served_engine import RunningEngine
from llmctl.workspace.served_model import (
    Lease,
    ModelInService,
    ServableModel,
    ServingTiming,
    StartEngine,
    WaitingTurn,
    names_of,
)
from llmctl.workspace.served_room import (
    LoadNow,
    Memory,
    NoRoom,
    WaitForRoom,
    decide,
    must_give_way,
    no_room,
)

if TYPE_CHECKING:
    from llmctl.workspace.gateway_hand_over import GatewayHandOver, HandedOver

AUTO = "auto"


class ServedModels:
    """``auto`` has the name of the model for each task, ``task`` is that of plain "auto". ``budget`` is what all
    that is loaded may take; ``queue`` is how many requests may wait for one model; ``hand_over`` decides what
    goes on to the user's own servers. A context manager: leaving it ends every engine."""

    def __init__(
        self,
        plans: Sequence[ServableModel],
        *,
        start: StartEngine,
        listener: Listener,
        budget: Memory,
        auto: Mapping[str, str],
        task: str,
        queue: int,
        timing: ServingTiming | None = None,
        hand_over: GatewayHandOver | None = None,
    ) -> None:
        self._models = {plan.name: ModelInService(plan) for plan in plans}
        self._names = names_of(plans)
        self._start, self._listener = start, listener
        self._budget, self._auto, self._task, self._queue = budget, auto, task, queue
        self._timing = timing or ServingTiming()
        self._hand_over = hand_over
        self._changed = threading.Condition()
        self._numbers = count()
        self._behind: tuple[str, ...] = ()  # models that the oldest request for an unloaded one waits for
        self._is_draining = False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="served models", daemon=True).start()

    # What there is

    def listed(self) -> tuple[ServedModel, ...]:
        return tuple(model.shown for model in self._models.values())

    def health(self) -> Health:
        states = {name: model.state for name, model in self._models.items()}
        loading = tuple(name for name, state in states.items() if state is ModelState.LOADING)
        is_ready = ModelState.LOADED in states.values() or set(states.values()) <= {ModelState.UNLOADED}
        return Health(is_ready and not self._is_draining, loading, self._is_draining)

    @property
    def in_flight(self) -> int:
        """Requests that are answered, or wait."""
        return sum(len(model.clients) + len(model.turns) for model in self._models.values())

    def named(self, name: str) -> ServedModel:
        """The model that ``name`` means now: NAME, NAME:QUANT, "auto" or "auto:TASK". Raises NotFoundError."""
        return self._named(name).shown

    def resolved(self, name: str) -> str:
        """The name that the model is listed by. Raises NotFoundError."""
        return self._named(name).plan.name

    def _named(self, name: str) -> ModelInService:
        word, _, task = name.partition(":")
        meant = self._auto.get(task or self._task) if word == AUTO else self._names.get(name)
        if meant is None:
            served = [*self._names, AUTO, *(f"{AUTO}:{task}" for task in self._auto)]
            also = did_you_mean(near(name, served)) or f", only {', '.join([*self._models, AUTO])}"
            raise NotFoundError(f"no model named {name[:100]!r} is served{also}", hint="GET /v1/models lists them")
        return self._models[meant]

    # Leases

    def lease_now(self, name: str, client: str = "") -> Lease | None:
        """The model where it is loaded and has room for a request, else None. Never waits. Raises NotFoundError and
        DrainingError."""
        model = self._named(name)
        if not self._changed.acquire(blocking=False):
            return None
        try:
            self._require_open()
            return None if model.turns else self._lent(model, client)
        finally:
            self._changed.release()

    def lease(self, name: str, is_gone: Callable[[], bool] = lambda: False, client: str = "") -> Lease:
        """The model once it is loaded and has room for a request. ``is_gone``: whether nobody waits any more;
        ``client``: whose request it is, of several who share the room.

        Raises NotFoundError, OccupiedError where too many wait (or nobody does any more), DrainingError,
        NothingFitsError where there is no room beside what is pinned, and what starting the engine raises.
        """
        model = self._named(name)
        with self._changed, self._waiting(model, client) as turn:
            while True:
                self._require_open()
                lease = self._granted(model, turn)
                if lease is not None:
                    return lease
                self._changed.wait(self._timing.look_s)
                if is_gone():
                    raise OccupiedError("the client has left")

    @contextmanager
    def _waiting(self, model: ModelInService, client: str) -> Iterator[WaitingTurn]:
        free = model.plan.users - len(model.clients)  # some who wait may be about to have that
        if len(model.turns) >= self._queue + free:
            waiting = units.number_of(self._queue, "request")
            message = f"{waiting} for {model.plan.name} are waiting already, as many as may"
            raise OccupiedError(message, retry_after_s=self._timing.retry_s)
        turn = WaitingTurn(next(self._numbers), client, model.failures)
        model.turns.append(turn)
        try:
            yield turn
        finally:
            model.turns.remove(turn)
            if not any(other.turns and not other.holds_memory for other in self._models.values()):
                self._behind = ()
            self._changed.notify_all()

    def _granted(self, model: ModelInService, turn: WaitingTurn) -> Lease | None:
        """A lease, None where it has to be waited for. Raises what ended the loading of the model."""
        if model.failure is not None and model.failures > turn.failures:
            raise model.failure
        if self._is_lendable(model):
            return self._lent(model, turn.client) if model.next_turn is turn else None
        if not model.holds_memory and turn is self._oldest_for_room():
            self._make_room(model)
        return None

    def _lent(self, model: ModelInService, client: str) -> Lease | None:
        if not self._is_lendable(model) or not self._has_room(model):
            return None
        assert model.engine is not None
        if must_give_way(model.held, self._behind, now_s=time.monotonic(), least_stay_s=self._timing.least_stay_s):
            return None
        model.clients.append(client)
        model.lent_s[client] = time.monotonic()
        return Lease(model, model.engine, partial(self._give_back, model, client))

    def _give_back(self, model: ModelInService, client: str) -> None:
        with self._changed:
            model.clients.remove(client)
            model.used_s = time.monotonic()
            self._changed.notify_all()

    def _has_room(self, model: ModelInService) -> bool:
        return len(model.clients) < model.plan.users

    def _is_lendable(self, model: ModelInService) -> bool:
        """Whether it is loaded. One whose engine has died is loaded no more."""
        engine = model.engine
        if model.state is not ModelState.LOADED or engine is None:
            return False
        if engine.is_alive:
            return True
        model.state, model.engine = ModelState.UNLOADED, None
        threading.Thread(target=self._tell_death, args=(model.plan, engine), daemon=True).start()
        return False

    def _tell_death(self, plan: ServableModel, engine: RunningEngine) -> None:
        self._listener.warn(f"{plan.name}: {engine.death().message}")

    # Loading and ending

    def preload(self, name: str) -> None:
        """Begins to load the model, unless there is no room for it now. Raises NotFoundError."""
        model = self._named(name)
        with self._changed:
            if not model.holds_memory:
                self._make_room(model)

    def _oldest_for_room(self) -> WaitingTurn | None:
        """Of the requests for models that aren't loaded."""
        waiting = [turn for model in self._models.values() if not model.holds_memory for turn in model.turns]
        return min(waiting, key=lambda turn: turn.number, default=None)

    def _make_room(self, model: ModelInService) -> None:
        """Begins to load it, or notes what has to end before. Raises NothingFitsError."""
        held = [other.held for other in self._models.values() if other.holds_memory]
        stay_s, now_s = self._timing.least_stay_s, time.monotonic()
        needs = {device: min(size, self._budget.get(device, size)) for device, size in model.plan.memory.items()}
        decision = decide(needs, held, self._budget, now_s=now_s, least_stay_s=stay_s)
        if isinstance(decision, NoRoom):
            raise no_room(model.plan.name, decision)
        if isinstance(decision, WaitForRoom):
            self._behind = decision.behind
            return
        self._load(model, decision)

    def _load(self, model: ModelInService, decision: LoadNow) -> None:
        self._behind = ()
        ending = [self._models[name] for name in decision.ending]
        engines = [self._taken(other) for other in ending]
        model.state, model.failure, model.loaded_s = ModelState.LOADING, None, time.monotonic()
        threading.Thread(target=self._loaded, args=(model, ending, engines), daemon=True).start()

    def _loaded(
        self, model: ModelInService, ending: Sequence[ModelInService], engines: Sequence[RunningEngine | None]
    ) -> None:
        for other, engine in zip(ending, engines, strict=True):
            self._end(other, engine, f"to make room for {model.plan.name}")
        engine, failure = self._started(model)
        if isinstance(failure, EngineError) and failure.lacked_memory and self._end_all_idle(model):
            engine, failure = self._started(model)
        with self._changed:
            model.engine, model.failure = engine, failure
            model.failures += failure is not None
            model.state = ModelState.LOADED if failure is None else ModelState.FAILED
            model.loaded_s = model.used_s = time.monotonic()
            self._changed.notify_all()
        if engine is not None:
            self._listener.note(f"{model.plan.name} is loaded, in {units.seconds(engine.load_s)}")
            if self._closed.is_set():
                engine.end()
        elif failure is not None:
            self._listener.warn(f"{model.plan.name} could not be loaded: {failure.message}")

    def _started(self, model: ModelInService) -> tuple[RunningEngine | None, LlmctlError | None]:
        """Its engine, or why there is none."""
        try:
            return self._start(model.plan), None
        except LlmctlError as error:
            return None, error
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return None, ResourceError(f"{model.plan.name} could not be loaded: {place}{error.strerror or error}")
        except Exception as error:  # noqa: BLE001  # whoever waits for the model has to hear of it
            return None, EngineError(f"{model.plan.name} could not be loaded: {type(error).__name__}")

    def _end_all_idle(self, model: ModelInService) -> bool:
        """Memory did not suffice, as other programs hold some: what is idle ends for the ``model``. Whether any did."""
        with self._changed:
            held = [other for other in self._models.values() if other is not model and other.engine is not None]
            idle = [other for other in held if not other.held.is_busy and not other.plan.pinned]
            engines = [self._taken(other) for other in idle]
        for other, engine in zip(idle, engines, strict=True):
            self._end(other, engine, f"as memory did not suffice for {model.plan.name}")
        return bool(idle)

    def _taken(self, model: ModelInService) -> RunningEngine | None:
        """The engine of a model that is to end: nobody gets it any more, and its memory still counts."""
        engine, model.engine = model.engine, None
        model.state, model.is_ending = ModelState.UNLOADED, True
        return engine

    def _end(self, model: ModelInService, engine: RunningEngine | None, why: str) -> None:
        if engine is not None:
            engine.end()
        with self._changed:
            model.is_ending = False
            self._changed.notify_all()
        self._listener.note(f"{model.plan.name} was ended {why}")

    def _watch(self) -> None:
        while not self._closed.wait(self._timing.watch_s):
            with self._changed:
                idle = [model for model in self._models.values() if self._is_lendable(model) and self._is_idle(model)]
                engines = [self._taken(model) for model in idle]
            for model, engine in zip(idle, engines, strict=True):
                self._end(model, engine, f"after {units.seconds(self._timing.idle_s or 0)} without a request")

    def _is_idle(self, model: ModelInService) -> bool:
        if self._timing.idle_s is None or model.plan.pinned or model.clients or model.turns:
            return False
        return time.monotonic() - model.used_s >= self._timing.idle_s

    # The user's own servers

    def elsewhere(self, error: LlmctlError, private: bool, name: str) -> HandedOver | None:
        """What takes a request for ``name`` that has failed here. Raises PolicyError."""
        return None if self._hand_over is None else self._hand_over.to_server(error, private=private, name=name)

    # The end

    def _require_open(self) -> None:
        if self._is_draining:
            raise DrainingError("the gateway is being stopped, and takes no new requests")

    def drain(self) -> None:
        """New requests, and those that wait, are refused from now on; what is being answered goes on. Callable from a
        signal's handler."""
        self._is_draining = True

    def close(self) -> None:
        """Ends every engine, and with it what is still answered."""
        self._is_draining = True
        self._closed.set()
        with self._changed:
            engines = [self._taken(model) for model in self._models.values() if model.engine is not None]
        for engine in filter(None, engines):
            engine.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
