"""When kernels are measured again because the runs say that the machine has changed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.engine.measure import kernels
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Machine
from llmctl.workspace import machine as machines
from llmctl.workspace.machine import CHANGED, this_machine
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
