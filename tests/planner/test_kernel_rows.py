"""Measurements that other programs disturbed: what is filled in, and that the pick does not depend on it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from llmctl.files.decode import decode
from llmctl.planner import plan
from llmctl.planner.cpu_rates import CpuSettings, best_threads, cpu_rates
from llmctl.planner.kernel_rows import ROWS, completed, joined, measured, of_groups
from llmctl.planner.rates import DeviceRates
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Machine
from llmctl.types.plan import Basis, Plan, Want
from tests.fakes.kernel_rates import scaled
from tests.planner.machines import EPYC, EPYC_KERNELS, everything, knowledge, of
from tests.properties import examples

RECORDED = Path(__file__).parents[1] / "fixtures" / "kernels"
CONSTANTS = knowledge().speed
USUAL = CpuSettings(threads=2, prefill_threads=2, repack=True, flash_attention=False, kv_type="f16")
# What is estimated from any part of a measurement of another machine than the reference lies within this factor of the
# whole measurement. It is that large where a part holds one of two layouts of a type: it is taken for the only one.
FACTOR = 3.5


@cache
def recorded(name: str) -> Machine:
    """Two cores of an AMD EPYC that are not those of the reference, as they were measured."""
    kernels = decode(Kernels, json.loads((RECORDED / f"{name}.json").read_text()), name)
    memory = replace(EPYC.memory, bandwidth_bytes_per_s=None)
    return replace(EPYC, memory=memory, kernels=kernels)


@cache
def picked(machine: Machine, task: str = "chat") -> tuple[str, str, int, int]:
    answer = plan(machine, everything(), Want(task=task), knowledge())
    assert isinstance(answer, Plan)
    choice = answer.choice
    return choice.candidate.model.id, choice.candidate.artifact.quant, choice.threads, choice.prefill_threads


def quality(machine: Machine) -> float:
    answer = plan(machine, everything(), Want(), knowledge())
    assert isinstance(answer, Plan) and answer.choice.quality is not None
    return answer.choice.quality


@pytest.mark.parametrize("task", ["chat", "code", "reasoning"])
@pytest.mark.parametrize("name", sorted(file.stem for file in RECORDED.glob("*.json")))
def test_the_pick_is_that_of_a_quiet_machine(name: str, task: str) -> None:
    quiet = picked(recorded("complete"), task)
    assert picked(recorded(name), task) == quiet
    assert quiet[2:] == (2, 2)


@pytest.mark.parametrize("name", ["complete", "one-thread-only", "three-hogs"])
def test_faster_kernels_and_more_memory_never_make_a_worse_pick(name: str) -> None:
    machine = recorded(name)
    assert machine.kernels is not None
    memory = machine.memory
    more = replace(memory, total_bytes=2 * memory.total_bytes, available_bytes=2 * memory.available_bytes)
    least = quality(machine)
    assert least <= quality(replace(machine, kernels=scaled(machine.kernels, 1.5)))
    assert least <= quality(replace(machine, memory=more))


def test_a_missing_row_is_filled_from_its_likeness_to_the_others() -> None:
    """Other programs disturbed every pass of Q8_0 with two threads: it was told as 14.1 GB/s."""
    whole, part = recorded("complete"), recorded("q8_0-with-two-threads-missing")
    rates, filled = cpu_rates(whole, USUAL, CONSTANTS), cpu_rates(part, USUAL, CONSTANTS)
    assert filled.decode["Q8_0"] == pytest.approx(rates.decode["Q8_0"], rel=0.15)
    assert filled.prefill["Q8_0"] == pytest.approx(rates.prefill["Q8_0"], rel=0.15)
    assert {name: rate for name, rate in filled.decode.items() if name != "Q8_0"} == {
        name: rate for name, rate in rates.decode.items() if name != "Q8_0"
    }
    assert (filled.basis_of(["Q4_K"]), filled.basis_of(["Q4_K", "Q8_0"])) == (Basis.CALIBRATED, "completed")


def test_what_is_filled_in_is_told_with_a_wider_range() -> None:
    want = Want(explicit=True)
    candidates = [candidate for candidate in of("qwen3-0.6b") if candidate.artifact.quant == "Q8_0"]
    whole, part = (
        plan(recorded(name), candidates, want, knowledge()) for name in ("complete", "q8_0-with-two-threads-missing")
    )
    assert isinstance(whole, Plan) and isinstance(part, Plan)
    assert (whole.choice.speed.basis, part.choice.speed.basis) == (Basis.CALIBRATED, Basis.MODELLED)
    low, high = (
        plan_made.choice.speed.decode_low_tok_s / plan_made.choice.speed.decode_tok_s for plan_made in (part, whole)
    )
    assert low < high
    assert "other programs kept the processor busy" in " ".join(part.choice.reasons)


@pytest.mark.parametrize(
    "name", ["one-thread-only", "one-kernel", "two-threads-slower-than-one", "three-hogs", "three-hogs-half-a-round"]
)
def test_a_number_of_threads_that_was_not_measured_undisturbed_is_not_ranked(name: str) -> None:
    assert best_threads(recorded(name)) == (2, 2)


def test_fewer_threads_are_chosen_where_they_were_measured_to_be_faster_with_all_beside() -> None:
    cpu = replace(EPYC.cpu, physical_cores=8, usable_threads=8)
    all_threads, fewer = MatrixRate("Q4_K", False, 8, 40e9, 100e9), MatrixRate("Q4_K", False, 6, 43e9, 90e9)
    both, alone = (replace(EPYC, cpu=cpu, kernels=Kernels(rows)) for rows in ((all_threads, fewer), (fewer,)))
    assert (best_threads(both), best_threads(alone)) == ((6, 8), (8, 8))
    disturbed = replace(all_threads, uncertain=("decode_bytes_per_s",))
    assert best_threads(replace(both, kernels=Kernels((disturbed, fewer)))) == (8, 8)


def test_several_threads_that_are_slower_than_one_were_disturbed() -> None:
    kernel_figures = measured(recorded("two-threads-slower-than-one").kernels or Kernels(()))
    of_two = {(figure.kind, figure.rate) for figure in kernel_figures.bounds}
    assert (("Q8_0", False), "decode_bytes_per_s") in of_two and (("Q4_K", True), "prefill_flop_per_s") in of_two
    assert all(figure.threads == 2 for figure in kernel_figures.bounds)
    # Three quarters may well be faster than all, where some cores are slow; and overheads grow with threads.
    slow_cores = Kernels((MatrixRate("Q4_K", False, 8, 40e9, 9e10), MatrixRate("Q4_K", False, 6, 43e9, 9e10)))
    assert not measured(slow_cores).bounds
    assert not measured(EPYC_KERNELS).bounds


def test_a_disturbed_figure_is_a_lower_bound() -> None:
    low, high = (
        replace(row, decode_bytes_per_s=rate, uncertain=("decode_bytes_per_s",))
        for row in EPYC_KERNELS.matrices
        if (row.weight_type, row.threads) == ("Q8_0", 2)
        for rate in (9e9, 60e9)
    )
    others = tuple(row for row in EPYC_KERNELS.matrices if (row.weight_type, row.threads) != ("Q8_0", 2))
    slow, fast = (
        cpu_rates(replace(EPYC, kernels=replace(EPYC_KERNELS, matrices=(*others, row))), USUAL, CONSTANTS)
        for row in (low, high)
    )
    assert slow.decode["Q8_0"] == pytest.approx(42.4e9, rel=0.05)
    assert fast.decode["Q8_0"] == 60e9


def test_of_two_measurements_the_faster_figures_stay() -> None:
    row = EPYC_KERNELS.matrices[0]
    slower, faster = replace(row, decode_bytes_per_s=1e9), replace(row, prefill_flop_per_s=9e11)
    disturbed = replace(row, decode_bytes_per_s=90e9, uncertain=("decode_bytes_per_s",))

    def after(*rows: MatrixRate) -> Kernels:
        return joined(Kernels(rows[:1]), Kernels(rows[1:]))

    assert after(row, slower).matrices == after(slower, row).matrices == (row,)
    assert after(row, faster).matrices == (faster,)
    assert after(row, disturbed).matrices == after(disturbed, row).matrices == (row,)
    assert after(disturbed).matrices == (disturbed,)


ALL_ROWS = [(group, row) for group in ROWS for row in getattr(recorded("complete").kernels, group)]


def part_of(rows: Iterable[tuple[str, Any]], disturbed: Iterable[tuple[int, float]] = ()) -> Kernels:
    """Some rows, a few of their figures so many times as fast as in a quiet measurement, and known to be disturbed."""
    groups: dict[str, list[Any]] = {group: [] for group in ROWS}
    for (group, row), (nth, factor) in zip(rows, [*disturbed, *[(0, 1.0)] * len(ALL_ROWS)], strict=False):
        rates = [field.name for field in fields(row) if field.name.endswith("_per_s")]
        name = rates[nth % len(rates)]
        lower = {name: getattr(row, name) * factor, "uncertain": (name,)} if factor < 1 else {}
        groups[group].append(replace(row, **lower))
    return of_groups(groups)


PARTS = st.builds(
    part_of,
    st.lists(st.sampled_from(ALL_ROWS), unique_by=id),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.05, 0.5, 0.99, 1.0]))),
)
SETTINGS = st.builds(
    CpuSettings,
    threads=st.sampled_from([1, 2]),
    prefill_threads=st.sampled_from([1, 2]),
    repack=st.booleans(),
    flash_attention=st.booleans(),
    kv_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
)


def figures(rates: DeviceRates) -> dict[str, float]:
    one_by_one = {
        name: getattr(rates, name)
        for name in ("layer_s", "activation_s", "expert_decode", "expert_prefill", "attention_prefill_flop_per_s")
    }
    one_by_one |= {f"decode {name}": rate for name, rate in rates.decode.items()}
    return one_by_one | {f"prefill {name}": rate for name, rate in rates.prefill.items()}


@examples(200)
@given(PARTS, SETTINGS)
def test_any_part_of_a_measurement_gives_rates_near_those_of_the_whole(part: Kernels, asked: CpuSettings) -> None:
    machine = recorded("complete")
    whole, some = (
        figures(cpu_rates(variant, asked, CONSTANTS)) for variant in (machine, replace(machine, kernels=part))
    )
    assert some.keys() == whole.keys()
    off = {name: some[name] / rate for name, rate in whole.items()}
    assert all(math.isfinite(ratio) and 1 / FACTOR < ratio < FACTOR for ratio in off.values()), off


@examples(30)
@given(PARTS, st.sampled_from(["chat", "code", "summarise"]))
def test_any_part_of_a_measurement_gives_a_plan(part: Kernels, task: str) -> None:
    machine = replace(recorded("complete"), kernels=part)
    answer = plan(
        machine, of("qwen3.5-4b") + of("gpt-oss-20b") + of("smollm2-135m-instruct"), Want(task=task), knowledge()
    )
    assert isinstance(answer, Plan)
    assert (answer.choice.threads, answer.choice.prefill_threads) == (2, 2)
    again = plan(
        machine, of("smollm2-135m-instruct") + of("gpt-oss-20b") + of("qwen3.5-4b"), Want(task=task), knowledge()
    )
    assert again == answer


@examples(50)
@given(PARTS)
def test_completing_what_is_complete_changes_nothing(part: Kernels) -> None:
    once = replace(recorded("complete"), kernels=part)
    once = replace(once, kernels=completed(once, CONSTANTS))
    assert measured(once.kernels or part).certain == measured(completed(once, CONSTANTS)).certain


def test_what_the_kernels_made_of_the_memory_is_not_taken_for_its_kind() -> None:
    """doctor tells a bandwidth of what was measured in part: a pick must not change with it."""
    part = recorded("three-hogs-half-a-round")
    for basis in ("measured (engine kernels)", "estimated (engine kernels, measured on a busy machine)"):
        memory = replace(part.memory, bandwidth_bytes_per_s=20e9, bandwidth_basis=basis)
        with_memory = replace(part, memory=memory)
        assert cpu_rates(with_memory, USUAL, CONSTANTS) == cpu_rates(part, USUAL, CONSTANTS)


@pytest.mark.parametrize("kernels", [Kernels(()), Kernels((MatrixRate("Q8_0", False, 2, 0.0, 0.0),))])
def test_of_no_measurement_at_all_the_processor_tells(kernels: Kernels) -> None:
    """Where its cores are known, the pick and the threads are those of the quiet machine."""
    assert picked(replace(recorded("complete"), kernels=kernels)) == picked(recorded("complete"))
