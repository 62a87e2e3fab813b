"""The micro-benchmark: run for real with a small budget; what it refuses, and what it remembers."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import child, paths, units
from llmctl.engine.devices import engines
from llmctl.engine.devices.machine import of_cards
from llmctl.engine.measure import kernels, microbench
from llmctl.engine.measure.kernels import cached, measure, working_set_bytes
from llmctl.engine.measure.workbench import Cores, Trial
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.planner.memory import bits
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels, MatrixRate, MeasuredTime
from llmctl.types.load import Load
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, EngineInfo, Machine, Memory
from llmctl.types.past import PastRun
from tests.fakes.kernel_rates import RATES, scaled

MIB, GIB = 1 << 20, 1 << 30
MACHINE = Machine(Memory(8 * GIB, 4 * GIB), Cpu("a processor", "x86_64", 2, 2, 2))
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", "ggml 0.25.3", ("CPU",), ("AVX2",), usable=True)


@pytest.mark.usefixtures("engine_known")
def test_the_real_kernels() -> None:
    """One thread, so that other tests on the same cores disturb few passes."""
    machine = Machine(Memory(8 * GIB, 1 * GIB), Cpu("a processor", "x86_64", 1, 1, 1))
    (engine,) = engines(Host())
    whole = measure(Host(), machine, engine, budget_s=1.5)
    assert cached(Host(), machine, engine) == whole
    assert {rate.weight_type for rate in whole.matrices} == set(kernels.USUAL_TYPES)
    assert (len(whole.attention), len(whole.overheads)) == (3, 1)
    kernels_here = undisturbed(whole)
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
    assert {(batch.weight_type, batch.columns) for batch in whole.batches} == {
        (name, columns) for name in microbench.BATCH_TYPES for columns in microbench.BATCH_COLUMNS
    }
    for batch in kernels_here.batches:
        one = next(
            (
                rate
                for rate in kernels_here.matrices
                if (rate.weight_type, rate.repacked) == (batch.weight_type, batch.repacked)
            ),
            None,
        )
        # several vectors at once are no slower than one after the other, give or take what disturbed one of both
        flop_per_byte = 2 * 8 / bits(batch.weight_type)
        assert one is None or batch.batch_flop_per_s > 0.5 * one.decode_bytes_per_s * flop_per_byte
    for node in kernels_here.overheads:
        assert node.threads == 1
        assert node.elements_per_s > 100 * node.nodes_per_s


def undisturbed(kernels: Kernels) -> Kernels:
    groups = {name: getattr(kernels, name) for name in kernel_rows.ROWS}
    return kernel_rows.of_groups({name: (row for row in rows if not row.uncertain) for name, rows in groups.items()})


CARD = Accelerator("0000:01:00.0", "a card", "NVIDIA", AcceleratorKind.DISCRETE, 8 * GIB, 4 * GIB, engine_device="CPU")


@pytest.mark.usefixtures("engine_known")
def test_a_device_is_measured_as_ggml_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ggml lists the processor as a device, too: the way there is that of a GPU."""
    monkeypatch.setattr(kernels, "WEIGHT_TYPES", ("Q4_K", "Q8_0"))
    monkeypatch.setattr(kernels, "DEVICE_SET_BYTES", 64 * MIB)
    monkeypatch.setattr(kernels, "DEVICE_BUDGET_S", 0.2)
    (engine,) = engines(Host())
    assert kernels.cached_device(Host(), CARD, engine) is None
    measured = kernels.measure_device(Host(), CARD, engine)
    assert [(rate.weight_type, rate.repacked, rate.threads) for rate in measured.matrices] == [
        ("Q4_K", False, 0),
        ("Q8_0", False, 0),
    ]
    assert all(1e7 < rate.decode_bytes_per_s < 1e12 for rate in measured.matrices)
    machine = replace(MACHINE, accelerators=(CARD,))
    assert of_cards(Host(), machine, engine) == {CARD.id: measured}
    assert kernels.cached_device(Host(), replace(CARD, driver="another"), engine) is None


@pytest.mark.usefixtures("engine_known")
def test_a_device_that_can_not_be_measured() -> None:
    (engine,) = engines(Host())
    with pytest.raises(EngineError, match=r"a card can't be measured: the engine .*no device named CUDA7"):
        kernels.measure_device(Host(), replace(CARD, engine_device="CUDA7"), engine)
    with pytest.raises(EngineError, match=r"a card can't be measured: .* 1 kB is free"):
        kernels.measure_device(Host(), replace(CARD, memory_free_bytes=1000), engine)


def answer(monkeypatch: pytest.MonkeyPatch, reply: child.Reply) -> None:
    monkeypatch.setattr(child, "ask", lambda *_, **__: reply)


def test_a_complete_result_is_remembered_for_this_machine_and_build(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    assert cached(host, MACHINE, ENGINE) is None
    answer(monkeypatch, child.Reply(asdict(RATES)))
    measured = measure(host, MACHINE, ENGINE)
    assert measured.date is not None
    assert measured == replace(RATES, date=measured.date, times=(MeasuredTime(measured.date, 1.0, 1.0),))
    assert cached(host, MACHINE, ENGINE) == measured
    assert cached(host, replace(MACHINE, memory=Memory(GIB, GIB)), ENGINE) == measured
    assert cached(host, replace(MACHINE, cpu=replace(MACHINE.cpu, usable_threads=1)), ENGINE) is None
    assert cached(host, MACHINE, replace(ENGINE, features=("AVX512",))) is None
    assert cached(host, MACHINE, replace(ENGINE, build="ggml 0.26.0")) is None


def test_what_was_disturbed_is_made_up_for_at_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def reply_with(answer: Kernels) -> None:
        def ask(_: Host, __: str, question: Any, **___: Any) -> child.Reply:
            asked.append(question)
            return child.Reply(asdict(answer))

        monkeypatch.setattr(child, "ask", ask)

    reply_with(disturbed(RATES))
    earlier = measure(Host(), MACHINE, ENGINE)
    assert earlier == cached(Host(), MACHINE, ENGINE)
    assert not complete(earlier) and kernels.uncertain_figures(earlier) == 2
    assert asked[0]["already_measured"] == []
    reply_with(Kernels(()))
    assert measure(Host(), MACHINE, ENGINE) == earlier
    # Only what was disturbed is measured again, in less time.
    assert {"group": "matrices", "weight_type": "Q4_K", "repacked": False, "threads": 2} not in asked[1][
        "already_measured"
    ]
    assert {"group": "attention", "kv_type": "f16", "flash": True, "threads": 2} in asked[1]["already_measured"]
    assert len(asked[1]["already_measured"]) == rows(RATES) - 1
    assert asked[1]["budget_s"] < asked[0]["budget_s"]
    reply_with(replace(Kernels(()), matrices=RATES.matrices[:1]))
    assert by_row(measure(Host(), MACHINE, ENGINE)) == by_row(RATES) == by_row(cached(Host(), MACHINE, ENGINE))
    assert by_row(measure(Host(), MACHINE, ENGINE)) == by_row(RATES)
    assert len(asked) == 3
    measure(Host(), MACHINE, ENGINE, again=True)
    assert asked[3] == asked[0]


def test_a_disturbed_pass_never_lowers_what_a_quiet_one_has_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, child.Reply(asdict(RATES)))
    measure(Host(), MACHINE, ENGINE)
    slower = scaled(RATES, 0.5)
    answer(monkeypatch, child.Reply(asdict(disturbed(slower))))
    assert by_row(measure(Host(), MACHINE, ENGINE, again=True)) == by_row(RATES)
    answer(monkeypatch, child.Reply(asdict(slower)))  # nothing disturbed this: the machine has changed
    assert by_row(measure(Host(), MACHINE, ENGINE, again=True)) == by_row(slower)


@pytest.mark.parametrize(
    ("kernels_here", "whole"),
    [
        (RATES, True),
        (None, False),
        (Kernels(()), False),
        (replace(RATES, matrices=tuple(row for row in RATES.matrices if row.threads == 1)), False),
        (replace(RATES, matrices=tuple(row for row in RATES.matrices if row.threads == 2)), False),
        (replace(RATES, matrices=RATES.matrices[1:]), False),
        (replace(RATES, experts=()), False),
        (replace(RATES, attention=()), False),
        (replace(RATES, overheads=RATES.overheads[1:]), False),
        (scaled(RATES, 0.0), False),
    ],
)
def test_what_is_measured_in_part_is_not_complete(kernels_here: Kernels | None, whole: bool) -> None:
    assert kernels.complete(MACHINE.cpu, kernels_here) == whole


def disturbed(kernels: Kernels) -> Kernels:
    """With all threads, the first type's figures are far too low: something else computed in each of their passes."""
    first, *others = kernels.matrices
    low = replace(first, decode_bytes_per_s=9e9, prefill_flop_per_s=4e10, uncertain=kernel_rows.rates_of(MatrixRate))
    return replace(kernels, matrices=(low, *others))


def complete(measured: Kernels) -> bool:
    return kernels.complete(MACHINE.cpu, measured)


def rows(measured: Kernels) -> int:
    return sum(len(getattr(measured, group)) for group in kernel_rows.ROWS)


def by_row(measured: Kernels | None) -> Any:
    assert measured is not None
    return {group: set(getattr(measured, group)) for group in kernel_rows.ROWS}


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
    """Stands in for ggml: passes that take no time, of which those of ``disturbed`` trials are all disturbed."""

    disturbed: tuple[str, ...] = ()

    def __init__(self, working_set_bytes: int, device: str | None) -> None:
        self.passes = 0

    def run(self, trial: Trial) -> None:
        time.sleep(0.001)
        self.passes += 1
        if trial.next() in self.disturbed:
            trial.disturbed_s = min(trial.disturbed_s, 1.0 / self.passes)
        else:
            trial.best_s = min(trial.best_s, 1.0 / self.passes)


def trials(_: Bench, weight_types: list[str], threads: list[int], __: Any) -> list[microbench.TimedKernel]:
    about = [{"weight_type": name, "repacked": False, "threads": threads[0]} for name in weight_types]
    return [
        microbench.TimedKernel("matrices", fields, {"decode_bytes_per_s": Trial([fields["weight_type"]], 1000, 1)})
        for fields in about
    ]


@pytest.mark.parametrize(
    ("never_quiet", "certain"), [((), ["Q4_0", "Q8_0"]), (("Q4_0",), ["Q8_0"]), (("Q4_0", "Q8_0"), [])]
)
def test_disturbed_passes_are_told_as_such_and_do_not_go_on_for_ever(
    monkeypatch: pytest.MonkeyPatch, never_quiet: tuple[str, ...], certain: list[str]
) -> None:
    monkeypatch.setattr(microbench, "Workbench", Bench)
    monkeypatch.setattr(microbench, "_rows", trials)
    monkeypatch.setattr(Bench, "disturbed", never_quiet)
    monkeypatch.setattr("llmctl.probe.load.moment", lambda *_, **__: None)
    question = {
        "weight_types": ["Q4_0", "Q8_0"],
        "threads": [1],
        "working_set_bytes": 1,
        "budget_s": 0.05,
        "device": None,
    }
    begun = time.monotonic()
    rates = microbench.measure(question)["matrices"]
    assert [rate["weight_type"] for rate in rates] == ["Q4_0", "Q8_0"]
    assert [rate["weight_type"] for rate in rates if not rate["uncertain"]] == certain
    assert all(rate["decode_bytes_per_s"] > 2000 for rate in rates)  # the best pass counts, not the first
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("threads", "others", "certain"),
    [([2, 1], 0.0, [2, 1]), ([2, 1], 1.0, [2]), ([1], 1.0, [1])],
)
def test_fewer_threads_leave_cores_to_others(
    monkeypatch: pytest.MonkeyPatch, threads: list[int], others: float, certain: list[int]
) -> None:
    def by_threads(_: Bench, __: list[str], counts: list[int], ___: Any) -> list[microbench.TimedKernel]:
        return [
            microbench.TimedKernel("overheads", {"threads": count}, {"nodes_per_s": Trial(["a"], 1000, count)})
            for count in counts
        ]

    monkeypatch.setattr(microbench, "Workbench", Bench)
    monkeypatch.setattr(microbench, "_rows", by_threads)
    monkeypatch.setattr("llmctl.probe.load.moment", lambda *_, **__: None)
    monkeypatch.setattr("llmctl.probe.load.load", lambda *_: Load(others))
    question = {"weight_types": [], "threads": threads, "working_set_bytes": 1, "budget_s": 0.01, "device": None}
    rows = microbench.measure(question)["overheads"]
    assert sorted(row["threads"] for row in rows if not row["uncertain"]) == sorted(certain)


def test_the_shorter_pass_counts_while_the_longer_one_has_found_no_quiet_moment() -> None:
    shorter = Trial([], 10, 2)
    nothing, disturbed = Trial([], 100, 2, shorter=shorter), Trial([], 100, 2, disturbed_s=10.0, shorter=shorter)
    assert [(trial.certain, trial.rate) for trial in (nothing, disturbed)] == [(False, 0), (False, 10)]
    shorter.best_s = 0.2
    quiet = dataclasses.replace(disturbed, best_s=4.0)
    assert [(trial.certain, trial.rate) for trial in (nothing, disturbed, quiet)] == [
        (True, 50),
        (True, 50),
        (True, 25),
    ]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux says where threads run")
def test_each_thread_is_kept_on_a_core_of_its_own_where_all_are_used() -> None:
    every = os.sched_getaffinity(0)
    cores, ended = Cores(), threading.Event()
    workers = [threading.Thread(target=ended.wait, daemon=True) for _ in range(len(every) - 1)]
    for worker in workers:
        worker.start()
    try:
        tasks = [os.getpid(), *(worker.native_id or 0 for worker in workers)]
        cores.spread(len(every))
        assert sorted(next(iter(os.sched_getaffinity(task))) for task in tasks) == sorted(every)
        assert all(len(os.sched_getaffinity(task)) == 1 for task in tasks)
        cores.spread(len(every) + 1)  # the engine has yet to begin one, which inherits where it may run
        assert all(os.sched_getaffinity(task) == every for task in tasks)
    finally:
        ended.set()
        for worker in workers:
            worker.join()
        os.sched_setaffinity(0, every)


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
    with pytest.raises(EngineError, match=f"{units.size(available)} is free"):
        working_set_bytes(available, last_cache)


def test_a_recorded_machine_has_no_kernels(tmp_path: Any) -> None:
    assert cached(Host(root=tmp_path), MACHINE, ENGINE) is None


def runs(*factors: float, date: str = "2026-11-30T12:00:00Z", modelled: bool = False) -> list[PastRun]:
    settings: dict[str, Any] = {"model": "m", "quant": "Q4_0", "file_bytes": 1, "sha256": None, "kv_type": "f16"}
    settings |= {"gpu_layers": 0, "repack": True, "flash_attention": False, "threads": 2, "prefill_threads": 2}
    lengths: dict[str, Any] = {"load_s": 1.0, "depth": 100.0, "read_tokens": 100}
    return [
        PastRun(**settings, **lengths, decode=factor, prefill=None, modelled=modelled, date=date) for factor in factors
    ]


DATED = replace(RATES, date="2026-11-30T10:00:00Z")


@pytest.mark.parametrize(
    ("measured", "past", "factor"),
    [
        (DATED, runs(0.5, 0.6, 0.5, 0.55, 0.6), 0.55),
        (DATED, runs(1.5, 1.6, 2.0, 1.4, 1.5), 1.5),
        (DATED, runs(0.5, 0.6, 0.5, 0.6), None),
        (DATED, runs(0.5, 0.6, 0.9, 0.6, 0.5), None),
        (DATED, runs(1.0, 0.5, 0.6, 0.5, 0.6, 0.5), 0.5),
        (DATED, runs(*[0.5] * 5, date="2026-11-30T09:00:00Z"), None),
        (DATED, runs(*[0.5] * 5, modelled=True), None),
        (RATES, runs(*[0.5] * 5), None),
        (None, runs(*[0.5] * 5), None),
    ],
)
def test_runs_that_agree_that_the_machine_has_changed(
    measured: Kernels | None, past: list[PastRun], factor: float | None
) -> None:
    assert kernels.changed(measured, past) == (None if factor is None else pytest.approx(factor))
