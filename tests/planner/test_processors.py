"""Processors on which nothing was measured: the memory they are made for, what their cores do, and that a plan is made
for all kinds of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.judge import Judge
from llmctl.planner.processor import family_of, figures_basis, modelled
from llmctl.planner.value import value
from llmctl.types.machine import Cpu, Machine, Memory
from llmctl.types.plan import Fit, Plan, Want
from tests.planner.machines import GIB, knowledge, of

CONSTANTS = knowledge().speed
X86 = ("SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2")
ARM = ("NEON", "FP16_VA", "DOTPROD")


def machine(name: str = "", cores: int = 8, features: tuple[str, ...] = X86, *, fast: int | None = None) -> Machine:
    cpu = Cpu(name, "x86_64", cores, cores, cores, features, performance_cores=fast)
    return Machine(Memory(32 * GIB, 28 * GIB), cpu)


@pytest.mark.parametrize("family", CONSTANTS.families, ids=lambda family: family.names)
def test_the_stated_bandwidth_is_that_of_the_channels(family: object) -> None:
    assert isinstance(family, type(CONSTANTS.families[0]))
    kind, _, rate = family.memory.partition("-")
    assert kind in ("DDR3", "DDR4", "DDR5")
    assert family.gb_per_s == pytest.approx(family.channels * 8 * int(rate) / 1000, rel=0.015)


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("AMD EPYC 9654 96-Core Processor", ("DDR5-4800", 12)),
        ("AMD EPYC 9B45", ("DDR5-6000", 12)),
        ("AMD EPYC 7R13 Processor", ("DDR4-3200", 8)),
        ("AMD EPYC", None),
        ("AMD Ryzen 7 5800X 8-Core Processor", ("DDR4-3200", 2)),
        ("AMD Ryzen 5 PRO 7530U with Radeon Graphics", ("DDR4-3200", 2)),
        ("AMD Ryzen 9 7950X 16-Core Processor", ("DDR5-5200", 2)),
        ("AMD Ryzen Threadripper 3970X 32-Core Processor", ("DDR4-3200", 4)),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", ("DDR4-3200", 8)),
        ("Intel(R) Core(TM) i5-9500 CPU @ 3.00GHz", ("DDR4-2400", 2)),
        ("Intel(R) Core(TM) i5-4278U CPU @ 2.60GHz", ("DDR3-1600", 2)),
        ("Intel(R) Core(TM) i5-10210U CPU @ 1.60GHz", ("DDR4-2666", 2)),
        ("13th Gen Intel(R) Core(TM) i7-13700H", ("DDR4-3200", 2)),
        ("Intel(R) Core(TM) Ultra 7 155H", ("DDR5-5600", 2)),
        ("Intel(R) Xeon(R) Platinum 8480+", ("DDR5-4800", 8)),
        ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", ("DDR4-3200", 8)),
        ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", ("DDR4-2133", 4)),
        ("Intel(R) Xeon(R) Processor @ 2.80GHz", None),
        ("Intel(R) N100", ("DDR4-3200", 1)),
        ("Neoverse V1", ("DDR5-4800", 8)),
        ("Cortex-A76", None),
        ("unknown", None),
    ],
)
def test_the_memory_that_a_processor_is_made_for(name: str, memory: tuple[str, int] | None) -> None:
    family = family_of(machine(name), CONSTANTS)
    assert (None if family is None else (family.memory, family.channels)) == memory


def test_the_memory_of_the_family_counts_where_the_machines_is_not_known() -> None:
    unknown, ryzen = machine("some processor"), machine("AMD Ryzen 9 7950X")
    known = replace(ryzen, memory=replace(ryzen.memory, bandwidth_bytes_per_s=40e9, bandwidth_basis="specified"))
    streams = [modelled(each, 8, CONSTANTS)[0] / CONSTANTS.memory_share for each in (unknown, ryzen, known)]
    assert streams == pytest.approx([25.6e9, 83.2e9, 40e9])
    assert [figures_basis(each, CONSTANTS) for each in (unknown, ryzen, known)] == ["unknown", "family", "cpu"]
    ranges = [CONSTANTS.ranges[name] for name in ("family", "cpu")]
    assert ranges[0].low < ranges[1].low and ranges[0].high > ranges[1].high
    assert "speed is modelled for DDR5-5200 in 2 channels" in chosen(ryzen).reasons[-1]


OFFERED = [*of("qwen3.5-4b"), *of("gpt-oss-20b"), *of("qwen3.5-2b"), *of("smollm2-135m-instruct")]
ROUNDING = 0.01
INSTRUCTIONS = [
    ((), ("SSE3", "SSSE3"), ("SSE3", "SSSE3", "AVX", "F16C"), X86, (*X86, "AVX512"), (*X86, "AVX512", "AVX512_VNNI")),
    (("NEON",), ARM, (*ARM, "MATMUL_INT8")),
]


@pytest.mark.parametrize("kinds", INSTRUCTIONS, ids=["x86", "ARM"])
def test_more_instructions_read_faster(kinds: tuple[tuple[str, ...], ...]) -> None:
    rates = [modelled(machine(features=features), 4, CONSTANTS) for features in kinds]
    assert rates == sorted(rates)
    assert len({prefill for _, prefill in rates}) >= len(kinds) - 1


def test_slow_cores_do_a_part_of_the_work() -> None:
    alike, hybrid = (modelled(machine(cores=16, fast=fast), 16, CONSTANTS)[1] for fast in (None, 6))
    assert hybrid == pytest.approx(alike * (6 + 0.5 * 10) / 16)
    only_fast = modelled(machine(cores=16, fast=6), 6, CONSTANTS)[1]
    assert only_fast == pytest.approx(alike * 6 / 16)


def chosen(machine: Machine) -> Fit:
    answer = plan(machine, [*of("qwen3.5-4b"), *of("smollm2-135m-instruct")], Want(min_tok_s=0), knowledge())
    assert isinstance(answer, Plan)
    return answer.choice


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["", "AMD EPYC", "AMD EPYC 7763", "Intel(R) N100", "13th Gen Intel(R) Core(TM) i7-13700H", "A" * 300]
    ),
    st.integers(1, 200),
    st.sampled_from([features for kinds in INSTRUCTIONS for features in kinds]),
    st.none() | st.integers(1, 8),
    st.none() | st.floats(0.5, 300),
)
def test_every_kind_of_processor_has_a_plan(
    name: str, cores: int, features: tuple[str, ...], fast: int | None, quota: float | None
) -> None:
    made = machine(name, cores, features, fast=fast if fast is not None and fast < cores else None)
    choice = chosen(replace(made, cpu=replace(made.cpu, quota=quota)))
    assert 0 < choice.speed.decode_low_tok_s < choice.speed.decode_tok_s < choice.speed.decode_high_tok_s
    assert choice.reasons[-1].startswith(("speed is modelled", "the memory's speed isn't known"))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["", "AMD EPYC", "Intel(R) N100", "AMD Ryzen 7 5800X"]),
    st.integers(1, 64),
    st.integers(1, 64),
    st.sampled_from([(), X86, ARM]),
    st.sampled_from(["chat", "code", "summarise"]),
)
def test_more_threads_never_make_a_pick_worse(
    name: str, cores: int, more: int, features: tuple[str, ...], task: str
) -> None:
    fewer, others = (value_on(machine(name, count, features), task) for count in (cores, cores + more))
    assert others >= fewer - ROUNDING


def value_on(machine: Machine, task: str) -> float:
    answer = plan(machine, OFFERED, Want(task=task), knowledge())
    judge = Judge(machine, Want(task=task), knowledge().tasks[task], knowledge())
    return value(answer.choice, judge) if isinstance(answer, Plan) else -math.inf
