"""What was picked is kept, for the same wish on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.planner import plan
from llmctl.types.machine import Machine
from llmctl.types.past import LastPick
from llmctl.types.plan import NoFit, Plan, Want
from llmctl.workspace import last_pick
from tests.fakes.kernel_rates import scaled
from tests.planner.machines import EPYC, EPYC_KERNELS, GIB, desktop, knowledge, made

LARGE, SMALL = made("large", gib=8, mmlu_pro=80), made("small", gib=1, mmlu_pro=40)
BOTH = [LARGE, SMALL]
WANT = Want()


def answered(machine: Machine, last: LastPick | None = None) -> Plan | NoFit:
    return plan(machine, BOTH, WANT, knowledge(), last=last)


@pytest.fixture
def kept() -> LastPick:
    last_pick.keep(EPYC, BOTH, WANT, answered(EPYC))
    pick = last_pick.read(EPYC, BOTH, WANT)
    assert pick is not None
    return pick


def test_the_first_time_there_is_none() -> None:
    assert last_pick.read(EPYC, BOTH, WANT) is None


def test_it_is_that_of_the_same_wish(kept: LastPick) -> None:
    assert kept.model == "small"
    longer = Want(prompt_tokens=900, architectures=frozenset({"llama"}))
    assert last_pick.read(EPYC, BOTH, longer) == kept
    assert last_pick.read(EPYC, BOTH, Want(task="code")) is None
    assert last_pick.read(EPYC, BOTH, Want(explicit=True)) is None
    here = [replace(candidate, path=Path("x.gguf")) for candidate in BOTH]
    assert last_pick.read(EPYC, here, WANT) is None


@pytest.mark.parametrize(
    "machine",
    [
        desktop(),
        replace(EPYC, cpu=replace(EPYC.cpu, usable_threads=1)),
        replace(EPYC, cpu=replace(EPYC.cpu, quota=1.5)),
    ],
    ids=["another", "one thread", "a quota"],
)
def test_it_is_that_of_the_same_machine(kept: LastPick, machine: Machine) -> None:
    assert last_pick.read(machine, BOTH, WANT) is None
    busy = replace(EPYC, memory=replace(EPYC.memory, available_bytes=2 * GIB))
    assert last_pick.read(busy, BOTH, WANT) == kept


def test_memory_that_others_hold_for_now_changes_nothing() -> None:
    """The machine has a quiet day, a busy one on which only the small model has room, and a quiet one."""
    quiet = replace(EPYC, kernels=scaled(EPYC_KERNELS, 8))
    last_pick.keep(quiet, BOTH, WANT, answered(quiet))
    large = last_pick.read(quiet, BOTH, WANT)
    assert large is not None and large.model == "large"
    busy = replace(quiet, memory=replace(quiet.memory, available_bytes=6 * GIB))
    today = answered(busy, last=large)
    assert isinstance(today, Plan) and today.choice.candidate == SMALL
    last_pick.keep(busy, BOTH, WANT, today)
    assert last_pick.read(quiet, BOTH, WANT) == large


@pytest.mark.parametrize("text", [b"", b"{", b'{"key": [], "value": 3}', b"[]", b"\xff"])
def test_a_broken_file_is_none(kept: LastPick, text: bytes) -> None:
    (file,) = paths.cache_dir().glob("pick-*.json")
    file.write_bytes(text)
    assert last_pick.read(EPYC, BOTH, WANT) is None
    last_pick.keep(EPYC, BOTH, WANT, answered(EPYC))
    assert last_pick.read(EPYC, BOTH, WANT) == kept
