"""The words of a plan: each says something, of the card that it is about."""

from __future__ import annotations

import re
from functools import cache

import pytest
from msgspec.structs import replace

from llmctl import catalogue
from llmctl.cli.plan.screen import _rooms
from llmctl.paths import profiles_dir
from llmctl.planner import plan
from llmctl.planner.reasons import _gain, card_name
from llmctl.probe.described.document import known_machines, read_machine
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate
from llmctl.types.plan import Configuration, DeviceMemory, Plan, Tried, Want
from tests.planner.machines import desktop, knowledge, with_cards

MACHINES = profiles_dir() / "machines"
GIB = 1 << 30


@cache
def candidates() -> tuple[Candidate, ...]:
    loaded = catalogue.load(profiles_dir() / "models")
    return catalogue.candidates(loaded, None, find=lambda source: None)


@pytest.mark.parametrize("name", known_machines(MACHINES))
@pytest.mark.parametrize("task", ["chat", "embed"])
def test_nothing_is_compared_with_itself(name: str, task: str) -> None:
    answer = plan(read_machine(name, MACHINES), candidates(), Want(task=task), knowledge())
    assert isinstance(answer, Plan)
    said = [*answer.choice.reasons, *map(str, answer.rejected)]
    for pick in answer.picks.values():
        said += pick.reasons
    for text in said:
        assert not re.search(r"\b([\d.,]+(?: \w+)?) instead of \1\b", text)
        assert "stay so" not in text


@pytest.mark.parametrize(
    ("chosen", "usual", "expected"),
    [
        ((116.0, 5), (121.0, 5), "take 2 min, 4 % less than with the engine's defaults"),
        ((43.0, 5), (45.0, 5), "take 43 s, 4 % less than with the engine's defaults"),
        ((45.0, GIB), (45.0, 3 * GIB), "take as long as with the engine's defaults, and 2.1 GB less memory"),
        ((46.0, GIB), (45.0, 3 * GIB), "take 2 % longer than with the engine's defaults, and 2.1 GB less memory"),
        ((45.0, GIB), (45.0, GIB), "take 45 s"),
    ],
)
def test_what_settings_gain(chosen: tuple[float, int], usual: tuple[float, int], expected: str) -> None:
    settings = Configuration(8192)
    other, defaults = (Tried(settings, size, task_s) for task_s, size in (chosen, usual))
    assert _gain(other, defaults, writes=True) == f"the expected prompt and answer {expected}"


def renamed(machine: Machine, *names: str) -> Machine:
    cards = zip(machine.accelerators, names, strict=True)
    return replace(machine, accelerators=tuple(replace(card, name=name) for card, name in cards))


def test_cards_of_one_name_are_told_apart() -> None:
    alike, unlike = renamed(with_cards(8.0, 8.0), "RTX", "RTX"), renamed(with_cards(8.0, 8.0), "RTX", "GTX")
    first, second = (card.id for card in alike.accelerators)
    assert [card_name(first, alike), card_name(second, alike)] == [f"RTX ({first})", f"RTX ({second})"]
    assert [card_name(first, unlike), card_name(second, unlike)] == ["RTX", "GTX"]
    assert card_name("nowhere", unlike) == "nowhere"


@pytest.mark.parametrize(
    ("names", "free", "expected"),
    [
        (("RTX", "RTX"), (8, 8), "1.0 GB of memory and 8.0 GB on each of 2 RTX"),
        (("RTX", "RTX"), (8, 4), "1.0 GB of memory and 8.0 GB on the RTX and 4.0 GB on the RTX"),
        (("RTX", "GTX"), (8, 8), "1.0 GB of memory and 8.0 GB on the RTX and 8.0 GB on the GTX"),
    ],
)
def test_what_is_free_where(names: tuple[str, str], free: tuple[int, int], expected: str) -> None:
    machine = renamed(with_cards(8.0, 8.0), *names)
    sizes = zip(machine.accelerators, free, strict=True)
    rows = [row("cpu", 1), *(row(card.id, size) for card, size in sizes)]
    assert _rooms(rows, machine) == expected


def row(device: str, free_gb: int) -> DeviceMemory:
    return DeviceMemory(device, 0, 0, 0, 0, 0, 0, available_bytes=free_gb * 10**9)


def test_what_is_needed_is_free_and_is_kept() -> None:
    answer = plan(desktop(23), candidates(), Want(), knowledge())
    assert isinstance(answer, Plan)
    memory, card = (text for text in answer.choice.reasons if text.startswith("needs "))
    amount = r"\d+(\.\d)? [kMG]?B"
    assert re.fullmatch(
        rf"needs {amount} of memory: {amount} is free, {amount} of that kept for other programs", memory
    )
    assert re.fullmatch(
        rf"needs {amount} of the .*'s memory: {amount} is free, {amount} of that left as a margin", card
    )
