"""What counts as a model's memory: anonymous pages, swapped ones too, and what cards have less of; no mapped file."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmctl.engine.llama_cpp import footprint
from llmctl.engine.llama_cpp.footprint import Footprint
from llmctl.engine.measure.ggml import DEVICE_KINDS

MIB = 1 << 20
SOME_BYTES = 64 * MIB
ELSEWHERE_BYTES = 8 * MIB  # what pytest itself may take or give back meanwhile
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what memory is anonymous")


class Cards:
    """ggml's list of devices: (kind, free bytes), which a test may change."""

    def __init__(self, *devices: tuple[str, int]) -> None:
        self.told: Sequence[tuple[str, int]] = devices

    def __call__(self) -> Cards:
        return self

    def devices(self) -> Iterator[tuple[str, Any]]:
        for kind, free in self.told:
            yield kind, SimpleNamespace(type=DEVICE_KINDS.index(kind), memory_free=free)

    def build(self) -> str:
        return "ggml 1 abc"


def device_bytes(
    monkeypatch: pytest.MonkeyPatch, before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]
) -> int | None:
    cards = Cards(*before)
    monkeypatch.setattr(footprint, "Ggml", cards)
    counted = Footprint()
    cards.told = after
    return counted.added()["device_bytes"]


@pytest.fixture
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no engine here")

    monkeypatch.setattr(footprint, "Ggml", missing)


@on_linux
def test_what_is_allocated_counts_and_what_is_mapped_does_not(without_engine: None, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"w" * SOME_BYTES)
    counted = Footprint()
    with file.open("rb") as weights, mmap.mmap(weights.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: os.sysconf("SC_PAGESIZE")]) > 0  # every page of it is in memory now
        read = counted.added()["anonymous_bytes"]
        assert read is not None and read < ELSEWHERE_BYTES
    held = b"x" * SOME_BYTES
    taken = counted.added()["anonymous_bytes"]
    assert taken is not None and abs(taken - len(held)) < ELSEWHERE_BYTES


def test_what_was_moved_to_swap_counts(without_engine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(footprint, "STATUS", status)
    status.write_text("Name:\tpython\nVmHWM:\t9999 kB\nRssAnon:\t  100 kB\nRssFile:\t 5000 kB\nVmSwap:\t    0 kB\n")
    counted = Footprint()
    status.write_text("Name:\tpython\nVmHWM:\t9999 kB\nRssAnon:\t  150 kB\nRssFile:\t 9000 kB\nVmSwap:\t   30 kB\n")
    assert counted.added()["anonymous_bytes"] == 80 * 1024


@pytest.mark.parametrize("status", [None, "", "VmRSS:\t100 kB\n", "RssAnon:\tmany kB\n"])
def test_a_system_that_does_not_tell(
    without_engine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str | None
) -> None:
    monkeypatch.setattr(footprint, "STATUS", tmp_path / "status")
    if status is not None:
        (tmp_path / "status").write_text(status)
    counted = Footprint()
    assert counted.added() == {"anonymous_bytes": None, "device_bytes": None}
    assert counted.build is None


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        ([("cpu", 100)], [("cpu", 60)], None),
        ([("gpu", 100), ("cpu", 50)], [("gpu", 30), ("cpu", 10)], 70),
        ([("gpu", 100), ("gpu", 80)], [("gpu", 90), ("gpu", 20)], 70),
        ([("igpu", 100), ("cpu", 50)], [("igpu", 30), ("cpu", 10)], None),  # the machine's own memory
        ([("gpu", 100)], [("gpu", 120)], 0),  # others gave back more than we took
        ([("gpu", 100)], [("gpu", 100)], 0),
    ],
)
def test_devices(
    monkeypatch: pytest.MonkeyPatch, before: list[tuple[str, int]], after: list[tuple[str, int]], taken: int | None
) -> None:
    assert device_bytes(monkeypatch, before, after) == taken
