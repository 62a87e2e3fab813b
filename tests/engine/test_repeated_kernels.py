"""A virtual machine's kernels are measured at several times, each of which says how far its speed goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import child
from llmctl.engine.measure import kernels, repeated
from llmctl.engine.measure.times import shares, with_time
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels, MeasuredTime
from llmctl.types.machine import Cpu, EngineInfo, Machine, Memory
from tests.fakes.kernel_rates import RATES, scaled

GIB = 1 << 30
MACHINE = Machine(Memory(8 * GIB, 4 * GIB), Cpu("a processor", "x86_64", 2, 2, 2), virtual_machine="kvm")
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", "ggml 0.25.3", ("CPU",), ("AVX2",), usable=True)
THEN = "2026-11-30T10:00:00Z"


def measured_at(*ages_s: float) -> Kernels:
    now = datetime.now(UTC)
    dates = [(now - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ") for age in ages_s]
    return replace(RATES, times=tuple(MeasuredTime(date, 1.0, 1.0) for date in dates))


@pytest.mark.parametrize(
    ("machine", "ages_s", "due"),
    [
        (MACHINE, [600], True),
        (replace(MACHINE, virtual_machine=None), [600], False),
        (MACHINE, [5], False),
        (MACHINE, [-600], True),  # by a clock that was put back since
        (MACHINE, [600, 500, 400], True),
        (MACHINE, [600, 500, 400, 300], False),
        (MACHINE, [], False),  # measured by an earlier version, or never undisturbed
    ],
)
def test_when_it_is_due(machine: Machine, ages_s: list[float], due: bool) -> None:
    assert repeated.is_due(machine, measured_at(*ages_s)) == due


@pytest.mark.parametrize(
    ("factor", "times"),
    [
        (1.0, [(1.0, 1.0), (1.0, 1.0)]),
        (0.8, [(1.0, 1.0), (0.8, 0.8)]),
        (1.25, [(0.8, 0.8), (1.0, 1.0)]),
    ],
)
def test_each_time_beside_the_fastest(factor: float, times: list[tuple[float, float]]) -> None:
    first = replace(RATES, times=(MeasuredTime(THEN, 1.0, 1.0),))
    new = scaled(RATES, factor)
    together = with_time(first, new, kernel_rows.joined(first, new), "2026-11-30T11:00:00Z")
    assert [(time.decode, time.prefill) for time in together] == [pytest.approx(shares) for shares in times]


def test_what_was_disturbed_tells_nothing() -> None:
    assert shares(Kernels(()), RATES) is None
    first = replace(RATES, times=(MeasuredTime(THEN, 1.0, 1.0),))
    assert with_time(first, Kernels(()), RATES, "2026-11-30T11:00:00Z") == first.times


@pytest.mark.parametrize(("factor", "questions"), [(0.7, 1), (1.05, 1), (1.3, 2)])
def test_a_sample_is_measured_and_all_where_it_is_faster_than_ever(
    monkeypatch: pytest.MonkeyPatch, factor: float, questions: int
) -> None:
    asked: list[Any] = []

    def ask(_: Host, __: str, question: Any, **___: Any) -> child.Reply:
        asked.append(question)
        return child.Reply(asdict(scaled(RATES, factor)))

    monkeypatch.setattr(child, "ask", ask)
    rates = replace(RATES, date=THEN, times=(MeasuredTime(THEN, 1.0, 1.0),))
    together = repeated.repeat(Host(), MACHINE, ENGINE, rates)
    assert len(asked) == questions
    assert {row["weight_type"] for row in asked[0]["already_measured"] if row["group"] == "matrices"}.isdisjoint(
        {"F16", "Q6_K"} - {row.weight_type for row in RATES.matrices}
    )
    assert kernels.cached(Host(), MACHINE, ENGINE) == together
    assert (together.date, len(together.times)) == (THEN, 2)
    fastest = max(row.decode_bytes_per_s for row in together.matrices)
    assert fastest == pytest.approx(max(1.0, factor) * max(row.decode_bytes_per_s for row in RATES.matrices))
