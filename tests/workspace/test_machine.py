"""When kernels are measured again because the runs say that the machine has changed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.engine.measure import kernels, repeated
from llmctl.types.kernels import Kernels, MeasuredTime
from llmctl.types.load import Load
from llmctl.types.machine import Machine
from llmctl.workspace import machine as machines
from llmctl.workspace.machine import CHANGED, ONCE_MORE, this_machine
from tests.fakes.kernel_rates import rates


class Told:
    """A listener that remembers the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.mark.usefixtures("engine_known")
@pytest.mark.parametrize(("has_changed", "again"), [(False, []), (True, [True])])
def test_known_kernels_are_measured_again_where_the_machine_has_changed(
    monkeypatch: pytest.MonkeyPatch, has_changed: bool, again: list[bool]
) -> None:
    asked: list[bool] = []

    def measure(_: Any, machine: Machine, *__: Any, again: bool, **___: Any) -> Kernels:
        asked.append(again)
        return replace(rates(kernels.thread_counts(machine.cpu)), date="2026-11-30T10:00:00Z")

    monkeypatch.setattr(kernels, "measure", measure)
    monkeypatch.setattr(kernels, "cached", lambda _, machine, __: rates(kernels.thread_counts(machine.cpu)))
    monkeypatch.setattr(machines, "load", lambda *_: None)
    listener = Told()
    this_machine(listener, has_changed=has_changed)
    assert asked == again
    assert listener.notes == [CHANGED] * len(again)


@pytest.mark.usefixtures("engine_known")
@pytest.mark.parametrize(("is_virtual", "busy", "times"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_a_virtual_machines_kernels_are_measured_at_other_times(
    monkeypatch: pytest.MonkeyPatch, is_virtual: bool, busy: bool, times: int
) -> None:
    asked: list[Kernels] = []

    def repeat(_: Any, __: Machine, ___: Any, known: Kernels) -> Kernels:
        asked.append(known)
        return known

    first = (MeasuredTime("2026-11-30T10:00:00Z", 1.0, 1.0),)
    monkeypatch.setattr(
        kernels, "cached", lambda _, machine, __: replace(rates(kernels.thread_counts(machine.cpu)), times=first)
    )
    monkeypatch.setattr(repeated, "is_due", lambda *_: is_virtual)
    monkeypatch.setattr(repeated, "repeat", repeat)
    monkeypatch.setattr(machines, "load", lambda *_: Load(64.0) if busy else None)
    listener = Told()
    this_machine(listener)
    assert len(asked) == times
    assert listener.notes == [ONCE_MORE] * times
