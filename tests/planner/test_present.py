"""What is left of a speed while other programs compute, and in a container with a quota."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.cpu_rates import best_threads
from llmctl.planner.present import share_left
from llmctl.types.load import Load
from llmctl.types.machine import Cpu
from llmctl.types.plan import Plan, Want
from tests.planner.machines import EPYC, LAPTOP, knowledge, made


@pytest.mark.parametrize(
    ("cores", "usable", "load", "share"),
    [
        (2, 2, Load(0.0), 1),
        (2, 2, Load(1.0), 1 / 2),
        (2, 2, Load(2.0), 1 / 3),
        (2, 2, Load(0.0, stolen_cores=0.25), 0.8),
        (2, 2, Load(1.0, waiting=0.9), 1 / 2),
        (2, 2, Load(1.0, short_of_memory=0.4), 0.3),
        (64, 2, Load(10.0), 1),
        (8, 6, Load(2.0), 1),
        (8, 6, Load(3.0), 1 / 2),
    ],
)
def test_the_slowest_thread_decides(cores: int, usable: int, load: Load, share: float) -> None:
    assert share_left(Cpu("x", "x86_64", cores, cores, usable), load) == pytest.approx(share)


@pytest.mark.parametrize("machine", [EPYC, LAPTOP, replace(EPYC, kernels=None)])
def test_a_quota_leaves_its_share_of_the_speed(machine: object) -> None:
    assert isinstance(machine, type(EPYC))
    threads = machine.cpu.usable_threads
    want = Want(explicit=True, threads=threads, repack=True, flash_attention=False)

    def speeds(quota: float | None) -> tuple[float, float]:
        answer = plan(replace(machine, cpu=replace(machine.cpu, quota=quota)), [made()], want, knowledge())
        assert isinstance(answer, Plan)
        return answer.choice.speed.decode_tok_s, answer.choice.speed.prefill_tok_s

    whole = speeds(None)
    assert speeds(2.0 * threads) == whole
    assert speeds(0.75 * threads) == pytest.approx([0.75 * rate for rate in whole], rel=0.1)


def test_the_best_number_of_threads_within_a_quota() -> None:
    """One thread decodes at 0.73 of the rate of two, and reads at 0.51."""

    def threads(quota: float | None) -> tuple[int, int]:
        return best_threads(replace(EPYC, cpu=replace(EPYC.cpu, quota=quota)))

    assert (threads(None), threads(1.5), threads(1.2)) == ((2, 2), (2, 2), (1, 2))
