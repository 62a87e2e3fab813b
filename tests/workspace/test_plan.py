"""A plan with the engine's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import catalogue
from llmctl.cli.output import Output
from llmctl.planner.memory import margin_bytes
from llmctl.types.plan import Allocation, Configuration, Fit, MemoryBasis, NoFit, Plan, Want
from llmctl.workspace import plan, situation
from llmctl.workspace.situation import Situation
from tests.fakes import gguf_file

pytestmark = pytest.mark.usefixtures("engine_known")

MIB = 1 << 20
WANT = Want(context=4096, explicit=True, min_tok_s=0)


@pytest.fixture
def found() -> Situation:
    return situation.look(Output("test"), measure=False)


def choice(answer: Plan | NoFit) -> Fit:
    assert isinstance(answer, Plan)
    return answer.choice


def test_the_engine_is_asked_about_a_file_that_is_here(found: Situation, starter_file: Path) -> None:
    """SmolLM2 135M at 4,096 tokens: 90 MiB of cache, 99.38 of compute, 0.19 of output; the formulas say 98.25."""
    candidates = [catalogue.from_file(starter_file)]
    memory = choice(plan.plan(found, candidates, WANT)).memory
    (row,) = memory.by_device
    assert memory.basis is MemoryBasis.ENGINE
    assert (row.kv_bytes, row.compute_bytes) == (90 * MIB, round(99.38 * MIB) + round(0.19 * MIB))
    assert memory.analytic_must_fit_bytes == pytest.approx(memory.must_fit_bytes, rel=0.02)


def test_a_header_is_enough_and_what_was_said_is_remembered(found: Situation, tmp_path: Path) -> None:
    file = gguf_file.write_model(
        tmp_path / "x.gguf", gguf_file.model_shape("smollm2-360m"), fill=gguf_file.Fill.NOTHING
    )
    candidates = [catalogue.from_file(file)]
    cold = choice(plan.plan(found, candidates, WANT, ask=False))
    assert cold.memory.basis is MemoryBasis.ANALYTIC
    asked = choice(plan.plan(found, candidates, WANT))
    assert asked.memory.basis is MemoryBasis.ENGINE
    assert choice(plan.plan(found, candidates, WANT, ask=False)) == asked


def test_another_machine_is_planned_without_it(
    found: Situation, starter_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "dry_run", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(plan, "remembered", lambda *_: pytest.fail("asked"))
    candidates = [catalogue.from_file(starter_file)]
    elsewhere = replace(found, elsewhere=True)
    assert choice(plan.plan(elsewhere, candidates, WANT)).memory.basis is MemoryBasis.ANALYTIC
    fetched = [replace(candidates[0], path=None)]  # what is not here can't be asked about
    assert choice(plan.plan(found, fetched, WANT)).memory.basis is MemoryBasis.ANALYTIC


def test_where_it_takes_more_other_settings_are_asked_about(
    found: Situation, starter_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Configuration] = []
    memory = replace(found.machine.memory, available_bytes=2 << 30)
    small = replace(found, machine=replace(found.machine, memory=memory, accelerators=()))

    def dry_run(host: object, engine: object, file: Path, configuration: Configuration) -> tuple[Allocation, None]:
        asked.append(configuration)
        much = 4 << 30 if configuration.kv_type == "f16" else 50 * MIB
        return Allocation(50 * MIB, 0, 0, {"CPU": much}), None

    monkeypatch.setattr(plan, "dry_run", dry_run)
    fit = choice(plan.plan(small, [catalogue.from_file(starter_file)], WANT))
    assert [one.kv_type for one in asked] == ["f16", "q8_0"]
    assert fit.kv_type == "q8_0" and fit.memory.basis is MemoryBasis.ENGINE
    (row,) = fit.memory.by_device
    assert row.total_bytes + margin_bytes(row.available_bytes) <= row.available_bytes


def test_an_engine_that_cannot_say_leaves_the_formulas(
    found: Situation, starter_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "dry_run", lambda *_: (None, "it did not answer within 10 s"))
    fit = choice(plan.plan(found, [catalogue.from_file(starter_file)], WANT))
    assert fit.memory.basis is MemoryBasis.ANALYTIC
