"""The real pynvml, in its child process, against a compiled stand-in for NVIDIA's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe import nvidia
from llmctl.probe.nvidia import Card, chosen
from llmctl.types.machine import AcceleratorKind, Memory

SOURCE = Path(__file__).parent.parent / "fakes" / "nvml" / "nvml.c"
COMPILER = shutil.which("gcc") or shutil.which("cc")
DEADLINE_S = 5.0

compiled = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
Hosts = Callable[..., Host]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles the stand-in once per variant and returns the folder it is in."""
    assert COMPILER is not None
    built: dict[str, Path] = {}

    def build(variant: str) -> Path:
        if variant not in built:
            folder = tmp_path_factory.mktemp(f"nvml{variant}")
            flags = ["-DOLD_DRIVER"] if variant == "old" else []
            target = folder / "libnvidia-ml.so.1"
            subprocess.run([COMPILER, "-shared", "-fPIC", "-Wall", *flags, "-o", target, SOURCE], check=True)
            built[variant] = folder
        return built[variant]

    return build


@pytest.fixture
def host(library: Callable[[str], Path]) -> Hosts:
    def make(behaviour: str, **environ: str) -> Host:
        folder = library("old" if behaviour == "old" else "")
        return Host(environ={**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_NVML": behaviour, **environ})

    return make


@compiled
def test_one_card(host: Hosts) -> None:
    cards, notes = nvidia.ask(host("1"), deadline_s=DEADLINE_S)
    assert notes == ()
    (card,) = cards
    assert (card.id, card.name, card.vendor, card.kind) == (
        "0000:0a:00.0",
        "NVIDIA GeForce RTX 3090",
        "NVIDIA",
        AcceleratorKind.DISCRETE,
    )
    assert (card.memory_total_bytes, card.memory_free_bytes) == (25_769_803_776, 24_000_000_000)
    assert (card.driver, card.compute_capability) == ("550.90.07", "8.6")
    assert card.bandwidth_bytes_per_s == pytest.approx(936e9, rel=0.001)  # NVIDIA's own figure for the card
    assert not card.usable


@compiled
def test_no_card_and_no_note(host: Hosts) -> None:
    assert nvidia.ask(host("0"), deadline_s=DEADLINE_S) == ((), ())


@compiled
def test_shared_memory_is_unknown_not_zero(host: Hosts) -> None:
    (_, second), _ = nvidia.ask(host("2"), deadline_s=DEADLINE_S)
    assert (second.name, second.kind) == ("NVIDIA GB10", AcceleratorKind.UNIFIED)
    assert (second.memory_total_bytes, second.memory_free_bytes, second.bandwidth_bytes_per_s) == (None, None, None)


@compiled
def test_functions_that_an_old_driver_lacks_leave_fields_unknown(host: Hosts) -> None:
    (card,), notes = nvidia.ask(host("old"), deadline_s=DEADLINE_S)
    assert notes == ()
    assert (card.memory_free_bytes, card.bandwidth_bytes_per_s) == (24_000_000_000, None)


@compiled
@pytest.mark.parametrize(
    ("behaviour", "note"),
    [
        ("init", "NVIDIA: RM has detected an NVML/RM version mismatch"),
        ("crash", "NVIDIA: the driver's library crashed (signal 11)"),
    ],
)
def test_failures_are_notes(host: Hosts, behaviour: str, note: str) -> None:
    assert nvidia.ask(host(behaviour), deadline_s=DEADLINE_S) == ((), (note,))


@compiled
def test_the_deadline_holds(host: Hosts) -> None:
    begun = time.monotonic()
    result = nvidia.ask(host("hang"), deadline_s=0.5)
    assert result == ((), ("NVIDIA: the driver's library did not answer within 0.5 s",))
    assert time.monotonic() - begun < 3


@pytest.mark.skipif(nvidia.visible(Host()), reason="there is a driver")
def test_without_a_library() -> None:
    cards, (note,) = nvidia.ask(Host(), deadline_s=DEADLINE_S)
    assert cards == ()
    assert "NVML Shared Library Not Found" in note


@compiled
def test_unlike_cards_and_a_choice_by_number_are_ambiguous(host: Hosts) -> None:
    (card,), (note,) = nvidia.ask(host("2", CUDA_VISIBLE_DEVICES="1"), deadline_s=DEADLINE_S)
    assert card.name == "NVIDIA GB10"
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in note
    sure = host("2", CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert nvidia.ask(sure, deadline_s=DEADLINE_S)[1] == ()


def card(uuid: str) -> Card:
    return Card("card", uuid, None, None, None, None, None, None)


CARDS = (card("GPU-aaa1"), card("GPU-aab2"), card("GPU-bbb3"))


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,7,1", [0]),
        ("1,1", [1]),
        ("GPU-bbb", [2]),
        ("GPU-aa", []),
        ("GPU-aab2,GPU-aaa", [1, 0]),
        ("99999999999999999999", []),
        ("²", []),
    ],
)
def test_cuda_visible_devices(choice: str | None, shown: list[int]) -> None:
    assert chosen(CARDS, choice) == tuple(CARDS[index] for index in shown)


def test_no_child_where_no_driver_shows(tmp_path: Path) -> None:
    assert not nvidia.visible(Host(root=tmp_path))
    assert nvidia.nvidia(Host(root=tmp_path), Memory(0, 0)) == ((), ())
