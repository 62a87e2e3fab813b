"""Models that are loaded on demand, lent and ended: real engines with tiny models where an engine matters."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from msgspec.structs import replace

from llmctl.errors import DrainingError, EngineError, LlmctlError, NotFoundError, NothingFitsError, OccupiedError
from llmctl.types.endpoint import Address
from llmctl.types.listener import SilentListener
from llmctl.types.plan import CPU, DeviceMemory
from llmctl.types.served import ModelState
from llmctl.workspace import engines
from llmctl.workspace.serve import preload
from llmctl.workspace.served_engine import RunningEngine, start_engine
from llmctl.workspace.served_model import Lease, PlannedModel, ServableModel, ServingTiming, StartEngine
from llmctl.workspace.served_models import ServedModels
from tests.fakes.chat_server import ChatServer, status
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

QUICK = ServingTiming(look_s=0.02, watch_s=0.05, least_stay_s=0.0)
MIB = 1 << 20


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("served") / "model.gguf", ["The", " answer"])


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    engines.stop(None)


def planned(file: Path, name: str, *, memory_mib: int = 10, users: int = 1, pinned: bool = False) -> PlannedModel:
    size = memory_mib * MIB
    row = DeviceMemory(CPU, size, 0, 0, 0, 0, size, 100 * MIB)
    fit = fit_for(file, name=name, sequences=users)
    return PlannedModel(
        name,
        replace(fit, memory=replace(fit.memory, by_device=(row,))),
        tasks=("chat",),
        also_named=(f"{name}:Q4_1",),
        users=users,
        pinned=pinned,
    )


class Started:
    """Starts real engines, and counts them by model; with an ``address``, only what stands for an engine there."""

    def __init__(self, address: Address | None = None) -> None:
        self._address = address
        self.names: list[str] = []

    def __call__(self, model: ServableModel) -> RunningEngine:
        assert isinstance(model, PlannedModel)
        self.names.append(model.name)
        return start_engine(model.fit, SilentListener()) if self._address is None else Pretended(self._address)


@dataclass
class Pretended:
    """Stands for an engine, where the test is about who gets one and who waits."""

    address: Address
    pid: int = 0
    load_s: float = 0.01
    is_alive: bool = True

    def death(self) -> EngineError:
        self.is_alive = False
        return EngineError("it was ended")

    def end(self) -> None:
        self.is_alive = False


@pytest.fixture(scope="module")
def answering() -> Iterator[Address]:
    """A server that answers as the model does."""
    message = {"choices": [{"message": {"role": "assistant", "content": "The answer"}}]}
    with ChatServer(status(200, message)) as server:
        yield Address(server.url, "a", token="a token")


def served(*plans: PlannedModel, start: StartEngine, queue: int = 8, timing: ServingTiming = QUICK) -> ServedModels:
    auto = {"chat": plans[0].name}
    return ServedModels(
        plans,
        start=start,
        listener=SilentListener(),
        budget={CPU: 100 * MIB},
        auto=auto,
        task="chat",
        queue=queue,
        timing=timing,
    )


def answer(lease: Lease) -> str:
    address = lease.address
    done = requests.post(
        f"{address.url}/chat/completions",
        json={"messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": f"Bearer {address.token}"},
        timeout=30,
    )
    text: str = done.json()["choices"][0]["message"]["content"]
    return text


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def states(models: ServedModels) -> dict[str, ModelState]:
    return {model.name: model.state for model in models.listed()}


def test_a_model_is_loaded_on_demand_and_lent_at_once_from_then_on(file: Path) -> None:
    start = Started()
    with served(planned(file, "a", users=2), start=start) as models:
        assert models.lease_now("a") is None
        assert models.health().ready
        for name in ("a", "a:Q4_1", "auto", "auto:chat"):
            with models.lease(name) as lease:
                assert (answer(lease), lease.model.name) == ("The answer", "a")
        first, second = models.lease_now("a"), models.lease_now("auto")
        assert first is not None and second is not None and models.lease_now("a") is None
        assert (models.in_flight, start.names) == (2, ["a"])
        assert first.sampling["chat_template_kwargs"] == {"enable_thinking": False}
    assert within(10, lambda: engines.staying() == [])


@pytest.mark.parametrize("name", ["b", "other", ""])
def test_an_unknown_model(file: Path, name: str) -> None:
    with served(planned(file, "a"), start=Started()) as models, pytest.raises(NotFoundError, match="only a, auto"):
        models.lease(name)


def test_the_least_recently_used_idle_model_ends_for_another_and_a_busy_one_never(file: Path) -> None:
    start = Started()
    plans = [planned(file, name, memory_mib=50) for name in ("a", "b", "c")]
    with served(*plans, start=start) as models, ThreadPoolExecutor() as pool:
        a = models.lease("a")
        models.lease("b").close()
        models.lease("c").close()
        assert states(models) == {"a": ModelState.LOADED, "b": ModelState.UNLOADED, "c": ModelState.LOADED}
        c = models.lease("c")
        b: Future[Lease] = pool.submit(models.lease, "b")
        assert within(5, lambda: models.named("b").waiting == 1)
        time.sleep(0.1)
        assert answer(a) == answer(c) == "The answer"
        assert not b.done()
        assert models.lease_now("a") is None  # an older request waits for its memory
        a.close()
        with b.result(timeout=30) as lease:
            assert answer(lease) == "The answer"
        assert start.names == ["a", "b", "c", "b"]
        c.close()


def test_two_that_are_asked_for_in_turn_stay_for_a_while(file: Path, answering: Address) -> None:
    start = Started(answering)
    plans = [planned(file, name, memory_mib=60) for name in ("a", "b")]
    with served(*plans, start=start, timing=replace(QUICK, least_stay_s=1.0)) as models, ThreadPoolExecutor() as pool:
        models.lease("a").close()
        b = pool.submit(models.lease, "b")
        begun = time.monotonic()
        while not b.done():
            if (lease := models.lease_now("a")) is not None:
                lease.close()
            time.sleep(0.01)
        assert time.monotonic() - begun > 0.5
        b.result().close()
        assert start.names == ["a", "b"]


def test_a_pinned_model_stays(file: Path, answering: Address) -> None:
    plans = planned(file, "a", memory_mib=60, pinned=True), planned(file, "b", memory_mib=60)
    with served(*plans, start=Started(answering), timing=replace(QUICK, idle_s=0.1)) as models:
        models.lease("a").close()
        with pytest.raises(NothingFitsError, match="b needs 63 MB of cpu, and 42 MB are left"):
            models.lease("b")
        time.sleep(0.3)
        assert states(models)["a"] is ModelState.LOADED


@pytest.mark.parametrize(
    ("names", "is_draining", "outcome"),
    [(("b", "a"), False, "loaded"), (("a", "other", "b"), False, "not_found"), (("a",), True, None)],
    ids=["all", "an unknown one", "it is stopped"],
)
def test_models_that_are_loaded_before_anybody_asks(
    file: Path, names: tuple[str, ...], is_draining: bool, outcome: str | None, answering: Address
) -> None:
    """In their order, until one can't be."""
    said: queue.Queue[str] = queue.Queue()
    start = Started(answering)
    with served(planned(file, "a"), planned(file, "b"), start=start) as models:
        if is_draining:
            models.drain()
        preload(models, names, loaded=lambda: said.put("loaded"), failed=lambda error: said.put(error.code))
        if outcome is None:
            with pytest.raises(queue.Empty):
                said.get(timeout=0.2)
        else:
            assert said.get(timeout=30) == outcome
        expected = [] if is_draining else list(names[: names.index("other")] if "other" in names else names)
        assert start.names == expected
        assert models.in_flight == 0


def test_a_model_ends_when_nobody_asks_for_it(file: Path) -> None:
    with served(planned(file, "a"), start=Started(), timing=replace(QUICK, idle_s=0.1)) as models:
        models.lease("a").close()
        assert within(10, lambda: states(models)["a"] is ModelState.UNLOADED and engines.staying() == [])
        with models.lease("a") as lease:
            time.sleep(0.3)
            assert answer(lease) == "The answer"


def test_too_many_that_wait_are_refused_and_clients_take_turns(file: Path, answering: Address) -> None:
    with served(planned(file, "a"), start=Started(answering), queue=3) as models, ThreadPoolExecutor() as pool:
        held = [models.lease("a", client="greedy")]
        order: list[str] = []

        def ask(client: str) -> None:
            with models.lease("a", client=client):
                order.append(client)
                time.sleep(0.02)

        waiting = []
        for number, client in enumerate(("greedy", "greedy", "modest"), 1):
            waiting.append(pool.submit(ask, client))
            assert within(5, lambda number=number: models.named("a").waiting == number)  # type: ignore[misc]
        with pytest.raises(OccupiedError, match="3 requests for a are waiting already") as refused:
            models.lease("a")
        assert refused.value.retry_after_s > 0
        held[0].close()
        for done in waiting:
            done.result(timeout=10)
        assert order == ["modest", "greedy", "greedy"]


def test_one_who_has_left_waits_no_more(file: Path, answering: Address) -> None:
    gone = threading.Event()
    with (
        served(planned(file, "a"), start=Started(answering)) as models,
        ThreadPoolExecutor() as pool,
        models.lease("a"),
    ):
        waiting = pool.submit(models.lease, "a", gone.is_set)
        assert within(5, lambda: models.named("a").waiting == 1)
        gone.set()
        with pytest.raises(OccupiedError):
            waiting.result(timeout=5)
        assert models.named("a").waiting == 0


def test_an_engine_that_was_killed_says_why_and_is_loaded_again(file: Path) -> None:
    start = Started()
    with served(planned(file, "a"), start=start) as models:
        with models.lease("a") as lease:
            (engine,) = engines.staying()
            os.kill(engine.pid, signal.SIGKILL)
            error = lease.failure(ConnectionResetError())
            assert isinstance(error, EngineError) and "died" in error.message
        with models.lease("a") as lease:
            assert answer(lease) == "The answer"
        assert start.names == ["a", "a"]


def test_a_model_that_cannot_be_loaded_says_so_and_is_tried_again(tmp_path: Path, file: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with served(planned(broken, "a"), planned(file, "b"), start=Started()) as models:
        for _ in range(2):
            with pytest.raises(LlmctlError):
                models.lease("a")
        assert states(models)["a"] is ModelState.FAILED
        models.lease("b").close()
        assert models.health().ready


def test_where_memory_did_not_suffice_idle_models_end_for_another_try(file: Path, answering: Address) -> None:
    start, failures = Started(answering), ["b"]

    def short_of_memory(model: ServableModel) -> RunningEngine:
        if model.name in failures:
            failures.pop()
            error = EngineError("the engine could not get its memory")
            error.lacked_memory = True
            raise error
        return start(model)

    with served(planned(file, "a"), planned(file, "b"), start=short_of_memory) as models:
        models.lease("a").close()
        models.lease("b").close()
        assert states(models) == {"a": ModelState.UNLOADED, "b": ModelState.LOADED}
        assert start.names == ["a", "b"]


def test_what_is_answered_goes_on_while_it_drains(file: Path, answering: Address) -> None:
    with served(planned(file, "a"), start=Started(answering)) as models, ThreadPoolExecutor() as pool:
        lease = models.lease("a")
        waiting = pool.submit(models.lease, "a")
        models.drain()
        with pytest.raises(DrainingError):
            waiting.result(timeout=5)
        with pytest.raises(DrainingError):
            models.lease_now("a")
        assert answer(lease) == "The answer"
        assert models.health().draining and not models.health().ready
        lease.close()
        assert models.in_flight == 0
