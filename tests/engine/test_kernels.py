"""The micro-benchmark: run for real with a small budget; what it refuses, and what it remembers."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import pytest

from llmctl import child, paths
from llmctl.engine import kernels, microbench
from llmctl.engine.devices import engines, with_known_cards
from llmctl.engine.kernels import cached, measure, working_set_bytes
from llmctl.engine.workbench import Trial
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, EngineInfo, Kernels, Machine, Memory
from tests.fakes.kernel_rates import RATES

MIB, GIB = 1 << 20, 1 << 30
MACHINE = Machine(Memory(8 * GIB, 4 * GIB), Cpu("a processor", "x86_64", 2, 2, 2))
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", "ggml 0.25.3", ("CPU",), ("AVX2",), usable=True)
PART = Kernels(RATES.matrices[:2])


def test_the_real_kernels() -> None:
    """One thread, so that other tests on the same cores disturb few passes."""
    machine = Machine(Memory(8 * GIB, 1 * GIB), Cpu("a processor", "x86_64", 1, 1, 1))
    (engine,) = engines(Host())
    try:
        kernels_here = measure(Host(), machine, engine, budget_s=1.5)
    except EngineError as error:
        if "busy" not in error.message:
            raise
        pytest.skip(error.message)
    assert cached(Host(), machine, engine) == kernels_here
    for rate in (*kernels_here.matrices, *kernels_here.experts):
        assert rate.weight_type in kernels.WEIGHT_TYPES
        assert 1e8 < rate.decode_bytes_per_s < 1e12
        assert 1e9 < rate.prefill_flop_per_s < 1e14
        # a matrix product reuses every weight 512 times, a vector product never
        assert rate.prefill_flop_per_s > 2 * rate.decode_bytes_per_s
        assert not rate.repacked or rate.weight_type != "F16"
    # repack.cpp has a layout for Q4_0 with AVX2 or with NEON and dot products
    layouts = {rate.repacked for rate in kernels_here.matrices if rate.weight_type == "Q4_0"}
    if layouts and {"AVX2", "DOTPROD"} & set(engine.features):
        assert layouts <= {True, False} if "REPACK" in engine.features else layouts == {False}
    for attention in kernels_here.attention:
        # a byte of cache that four heads of queries look at takes longer than one that a single head looks at
        assert attention.shared_bytes_per_s < 1.1 * attention.alone_bytes_per_s
    for node in kernels_here.overheads:
        assert node.threads == 1
        assert node.elements_per_s > 100 * node.nodes_per_s


CARD = Accelerator("0000:01:00.0", "a card", "NVIDIA", AcceleratorKind.DISCRETE, 8 * GIB, 4 * GIB, engine_device="CPU")


def test_a_device_is_measured_as_ggml_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ggml lists the processor as a device, too: the way there is that of a GPU."""
    monkeypatch.setattr(kernels, "WEIGHT_TYPES", ("Q4_K", "Q8_0"))
    monkeypatch.setattr(kernels, "DEVICE_SET_BYTES", 64 * MIB)
    monkeypatch.setattr(kernels, "DEVICE_BUDGET_S", 0.2)
    (engine,) = engines(Host())
    assert kernels.cached_device(Host(), CARD, engine) is None
    found = kernels.measure_device(Host(), CARD, engine)
    assert [(rate.weight_type, rate.repacked, rate.threads) for rate in found.matrices] == [
        ("Q4_K", False, 0),
        ("Q8_0", False, 0),
    ]
    assert all(1e7 < rate.decode_bytes_per_s < 1e12 for rate in found.matrices)
    machine = with_known_cards(Host(), replace(MACHINE, accelerators=(CARD,)), engine)
    assert machine.accelerators[0].kernels == found == kernels.cached_device(Host(), CARD, engine)
    assert kernels.cached_device(Host(), replace(CARD, driver="another"), engine) is None


def test_a_device_that_can_not_be_measured() -> None:
    (engine,) = engines(Host())
    with pytest.raises(EngineError, match=r"a card can't be measured: the engine .*no device named CUDA7"):
        kernels.measure_device(Host(), replace(CARD, engine_device="CUDA7"), engine)
    with pytest.raises(EngineError, match=r"a card can't be measured: .* 1,000 are free"):
        kernels.measure_device(Host(), replace(CARD, memory_free_bytes=1000), engine)


def answer(monkeypatch: pytest.MonkeyPatch, reply: child.Reply) -> None:
    monkeypatch.setattr(child, "ask", lambda *_, **__: reply)


def test_a_complete_result_is_remembered_for_this_machine_and_build(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    assert cached(host, MACHINE, ENGINE) is None
    answer(monkeypatch, child.Reply(asdict(RATES)))
    assert measure(host, MACHINE, ENGINE) == RATES
    assert cached(host, MACHINE, ENGINE) == RATES
    assert cached(host, replace(MACHINE, memory=Memory(GIB, GIB)), ENGINE) == RATES
    assert cached(host, replace(MACHINE, cpu=replace(MACHINE.cpu, usable_threads=1)), ENGINE) is None
    assert cached(host, MACHINE, replace(ENGINE, features=("AVX512",))) is None
    assert cached(host, MACHINE, replace(ENGINE, build="ggml 0.26.0")) is None


def test_what_was_disturbed_is_made_up_for_at_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def reply_with(found: Kernels) -> None:
        def ask(_: Host, __: str, question: Any, **___: Any) -> child.Reply:
            asked.append(question)
            return child.Reply(asdict(found))

        monkeypatch.setattr(child, "ask", ask)

    reply_with(PART)
    assert measure(Host(), MACHINE, ENGINE) == PART == cached(Host(), MACHINE, ENGINE)
    assert not kernels.complete(PART)
    reply_with(Kernels(()))
    assert measure(Host(), MACHINE, ENGINE) == PART
    reply_with(replace(RATES, matrices=RATES.matrices[1:]))
    assert measure(Host(), MACHINE, ENGINE) == RATES == cached(Host(), MACHINE, ENGINE)
    assert kernels.complete(RATES)
    assert measure(Host(), MACHINE, ENGINE) == RATES
    assert len(asked) == 3
    measure(Host(), MACHINE, ENGINE, again=True)
    assert asked[3] == asked[0]


@pytest.mark.parametrize(
    ("cpu", "counts"),
    [
        (Cpu("x", "x86_64", 1, 1, 1), (1,)),
        (Cpu("x", "x86_64", 2, 2, 2), (2, 1)),
        (Cpu("x", "x86_64", 8, 16, 8), (8, 6, 4)),
        (Cpu("hybrid", "x86_64", 16, 24, 16, performance_cores=8), (16, 12, 8)),
        (Cpu("a share of it", "x86_64", 64, 128, 3), (3, 2, 1)),
    ],
)
def test_numbers_of_threads_that_are_worth_a_try(cpu: Cpu, counts: tuple[int, ...]) -> None:
    assert kernels.thread_counts(cpu) == counts


@pytest.mark.parametrize("text", [b"", b"[]", b'{"key": []}', b'"' * 100])
def test_a_broken_cache_file_is_ignored(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    answer(monkeypatch, child.Reply(asdict(RATES)))
    measure(Host(), MACHINE, ENGINE)
    (file,) = paths.cache_dir().glob("kernels-*.json")
    file.write_bytes(text)
    assert cached(Host(), MACHINE, ENGINE) is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (child.Reply(None, "crashed (signal 11)"), "the engine crashed"),
        (child.Reply({"matrices": []}), "keep the processor busy"),
        (child.Reply({}), "can't be measured"),
        (child.Reply([]), "can't be measured"),
        (child.Reply({"matrices": [{"weight_type": 1}]}), "matrices.0..repacked is missing"),
    ],
)
def test_failures(monkeypatch: pytest.MonkeyPatch, reply: child.Reply, said: str) -> None:
    answer(monkeypatch, reply)
    with pytest.raises(EngineError, match=said.replace("(", r"\(")):
        measure(Host(), MACHINE, ENGINE)


class Bench:
    """Stands in for ggml: passes that take no time, of which those of ``disturbed`` trials never count."""

    disturbed: tuple[str, ...] = ()

    def __init__(self, working_set_bytes: int, device: str | None) -> None:
        self.passes = 0

    def run(self, trial: Trial) -> None:
        time.sleep(0.001)
        self.passes += 1
        if trial.next() not in self.disturbed:
            trial.best_s = min(trial.best_s, 1.0 / self.passes)


def rows(bench: Bench, weight_types: list[str], threads: list[int]) -> list[microbench.Row]:
    about = [{"weight_type": name, "repacked": False, "threads": threads[0]} for name in weight_types]
    return [
        microbench.Row("matrices", one, {"decode_bytes_per_s": Trial([one["weight_type"]], 1000, 1)}) for one in about
    ]


@pytest.mark.parametrize(("disturbed", "left"), [((), ["Q4_0", "Q8_0"]), (("Q4_0",), ["Q8_0"]), (("Q4_0", "Q8_0"), [])])
def test_disturbed_passes_do_not_count_and_do_not_go_on_for_ever(
    monkeypatch: pytest.MonkeyPatch, disturbed: tuple[str, ...], left: list[str]
) -> None:
    monkeypatch.setattr(microbench, "Workbench", Bench)
    monkeypatch.setattr(microbench, "_rows", rows)
    monkeypatch.setattr(Bench, "disturbed", disturbed)
    question = {
        "weight_types": ["Q4_0", "Q8_0"],
        "threads": [1],
        "working_set_bytes": 1,
        "budget_s": 0.05,
        "device": None,
    }
    begun = time.monotonic()
    rates = microbench.measure(question)["matrices"]
    assert [rate["weight_type"] for rate in rates] == left
    assert all(rate["decode_bytes_per_s"] > 2000 for rate in rates)  # the best pass counts, not the first
    assert time.monotonic() - begun < 1


def test_an_engine_that_is_too_slow_for_the_deadline() -> None:
    with pytest.raises(EngineError, match=r"did not answer within 0\.05 s"):
        measure(Host(), MACHINE, ENGINE, deadline_s=0.05)


@pytest.mark.parametrize(
    ("available", "last_cache", "expected"),
    [
        (32 * GIB, None, 256 * MIB),
        (32 * GIB, 32 * MIB, 256 * MIB),
        (32 * GIB, 96 * MIB, 384 * MIB),
        (64 * GIB, 1152 * MIB, 2 * GIB),
        (900 * MIB, 2 * MIB, 150 * MIB),
        (384 * MIB, 2 * MIB, 64 * MIB),
    ],
)
def test_the_working_set_is_beyond_the_cache_and_small(available: int, last_cache: int | None, expected: int) -> None:
    assert working_set_bytes(available, last_cache) == expected


@pytest.mark.parametrize(("available", "last_cache"), [(300 * MIB, None), (0, None), (1 * GIB, 96 * MIB)])
def test_too_little_memory_to_measure(available: int, last_cache: int | None) -> None:
    with pytest.raises(EngineError, match=f"there are {available:,}"):
        working_set_bytes(available, last_cache)


def test_a_recorded_machine_has_no_kernels(tmp_path: Any) -> None:
    assert cached(Host(root=tmp_path), MACHINE, ENGINE) is None
