"""How busy the machine is beside us: from counters made up, and from the kernel's while another program computes."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.load import TICKS_PER_S, Moment, Pressure, ProcessTime, load, moment, pressure
from llmctl.types.load import Load

BEGUN = Moment(at_s=0.0, busy_ticks=0, stolen_ticks=0, own_s=0.0, heat_count=0, processes={}, pressure=Pressure())


def after(busy_s: float, **fields: object) -> Moment:
    """Two seconds later, all cores together having computed for ``busy_s``."""
    usual: dict[str, object] = {"stolen_ticks": 0, "own_s": 0.0, "heat_count": 0, "processes": {}}
    return Moment(at_s=2.0, busy_ticks=round(busy_s * TICKS_PER_S), **{**usual, **fields})  # type: ignore[arg-type]


def processes(**used_s: float) -> dict[int, ProcessTime]:
    return {
        number: ProcessTime(name, not name.startswith("their"), round(seconds * TICKS_PER_S))
        for number, (name, seconds) in enumerate(used_s.items())
    }


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (after(0.1), None),
        (after(2.5, own_s=2.4), None),
        (after(2.5, own_s=0.5), Load(1.0)),
        (after(0.0, stolen_ticks=TICKS_PER_S), Load(0.0, 0.5)),
        (after(0.0, heat_count=1), Load(heat=True)),
        (after(2.0, processes=processes(cc=1.8, sh=0.1)), Load(1.0, program="cc")),
        (after(2.0, processes=processes(theirs=1.8, sh=0.1)), Load(1.0)),
        (after(2.0, processes=processes(a=0.1, b=0.2)), Load(1.0)),
        (after(0.1, pressure=Pressure(0.3, 0.05)), None),
        (after(0.1, pressure=None), None),
        (after(0.0, pressure=Pressure(1.0)), Load(waiting=0.5)),
        (after(0.0, pressure=Pressure(0.0, 0.5)), Load(short_of_memory=0.25)),
        (after(2.5, own_s=0.5, pressure=Pressure(3.0, 0.1)), Load(1.0, waiting=1.0, short_of_memory=0.05)),
        (Moment(0.0, 500, 0, 0.0, 0, {}), None),
        (None, None),
    ],
)
def test_what_others_used(now: Moment | None, expected: Load | None) -> None:
    assert load(BEGUN, now) == expected


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(1.25, program="cc"), "other programs (cc) use 1.2 cores"),
        (Load(1.25, 0.04), "other programs use 1.2 cores"),
        (Load(1.25, 0.5), "other programs use 1.2 cores, other virtual machines use 0.5"),
        (Load(0, 0.5, heat=True), "other virtual machines use 0.5 cores, the processor is hot and slows down"),
        (Load(0.01, waiting=0.5), "programs wait for a core 50% of the time"),
        (Load(0.3, waiting=0.5), "other programs use 0.3 cores"),
        (Load(0.01, waiting=0.5, short_of_memory=0.12), "programs wait for memory 12% of the time"),
    ],
)
def test_in_words(load: Load, words: str) -> None:
    assert str(load) == words


CALM = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        (CALM, CALM.replace("1500000", "250"), Pressure(1.5, 0.00025)),
        (CALM, None, None),
        ("full total=7\n", CALM, None),
        ("some avg10=0.00\n", CALM, None),
        ("", "", None),
    ],
)
def test_the_pressure_of_a_recorded_machine(
    tmp_path: Path, cpu: str | None, memory: str | None, expected: Pressure | None
) -> None:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    for name, text in (("cpu", cpu), ("memory", memory)):
        if text is not None:
            (tmp_path / "proc/pressure" / name).write_text(text)
    assert pressure(Host(root=tmp_path)) == expected


def _compute() -> None:
    while True:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells")
def test_another_program_that_computes() -> None:
    program = multiprocessing.get_context("fork").Process(target=_compute, daemon=True)
    program.start()
    try:
        before = moment(Host(), processes=True)
        time.sleep(0.2)
        now = moment(Host(), processes=True)
    finally:
        program.kill()
        program.join()
    busy, pid = load(before, now), program.pid or 0
    assert busy is not None and busy.other_cores > 0.2
    assert now is not None and pid in now.processes and now.processes[pid].ours


def test_a_recorded_machine_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1 2 3 4 5 6 7 8 9 0\n")
    assert moment(Host(root=tmp_path)) is None
