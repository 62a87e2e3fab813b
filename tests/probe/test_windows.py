"""Windows, which can't be run here: recorded machines, and the child's own part with stand-ins for Windows's doors."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from llmctl.child import Reply
from llmctl.engine.devices.machine import this_machine
from llmctl.probe import cpu, memory, portable, probe
from llmctl.probe.described.document import CORRECT
from llmctl.probe.recorded.recording import Recorded, RecordedReply, Recording, recorded
from llmctl.types.machine import Note

MACHINES = Path(__file__).parent.parent / "fixtures" / "machines"
STORE = Path("/models")
TOLD = {
    "os": "Windows 11 (10.0.26100)",
    "arch": "AMD64",
    "cpu_name": "AMD Ryzen 7 5800X 8-Core Processor",
    "physical_cores": 8,
    "logical_cores": 16,
    "allowed_cpus": 16,
    "flags": ["avx2"],
    "memory_total_bytes": 32 << 30,
    "memory_available_bytes": 20 << 30,
    "swap_bytes": 0,
}


def answering(**changed: object) -> Recorded:
    told = Recording("win32", {}, asked=(RecordedReply("llmctl.probe.portable", {**TOLD, **changed}),))
    return Recorded(root=Path("/nowhere"), environ={}, system="win32", recording=told)


@dataclass(frozen=True)
class Counting(Recorded):
    asked: list[str] = field(default_factory=list)

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        self.asked.append(module)
        return super().ask(module, question, deadline_s=deadline_s)


def test_one_child_tells_all() -> None:
    told = answering().recording
    for _ in range(2):  # another host is another machine
        host = Counting(root=Path("/nowhere"), environ={}, system="win32", recording=told)
        found = probe(host, store=STORE)
        assert (found.cpu.name, found.memory.total_bytes, found.os) == (
            TOLD["cpu_name"],
            TOLD["memory_total_bytes"],
            TOLD["os"],
        )
        assert host.asked.count("llmctl.probe.portable") == 1


def test_free_memory_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Counting(root=Path("/nowhere"), environ={}, system="win32", recording=answering().recording)
    monkeypatch.setattr(portable, "KEPT_S", -1.0)
    memory.memory(host)
    memory.memory(host)
    assert host.asked == ["llmctl.probe.portable"] * 2


def test_what_the_child_says_is_checked() -> None:
    found, notes = memory.memory(answering(memory_available_bytes=64 << 30))
    assert (found.available_bytes, notes) == (32 << 30, ())
    processor, notes = cpu.cpu(answering(cpu_name="Ryzen\n\x1b[31m 7", physical_cores=0, logical_cores=0))
    assert (processor.name, processor.usable_threads) == ("Ryzen [31m 7", 1)
    processor, (note,) = cpu.cpu(answering(physical_cores="many"))
    assert (processor.name, processor.usable_threads) == ("unknown", 1)
    message = "the processor can't be learnt: portable.physical_cores must be a whole number, zero or more"
    assert note == Note(message, CORRECT)


def test_cards_that_only_the_engine_sees_are_of_its_size() -> None:
    """More than 4 GiB, which the registry's 32 bits can't hold."""
    host = recorded(MACHINES / "windows-amd-cpu-engine")
    (card,) = this_machine(host, store=STORE)[0].accelerators
    assert (card.name, card.usable) == ("AMD Radeon RX 6700 XT", True)
    assert card.memory_total_bytes == 12868124672
    without = tuple(one for one in host.recording.asked if one.module != "llmctl.engine.devices")
    alone = replace(host, recording=structs.replace(host.recording, asked=without))
    assert this_machine(alone, store=STORE)[0].accelerators == ()


@pytest.mark.skipif(sys.platform == "win32", reason="has the real ones")
@pytest.mark.parametrize("named", [True, False])
def test_the_processor_in_the_registry(monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    @contextmanager
    def opened(root: str, path: str) -> Iterator[str]:
        if not named:
            raise FileNotFoundError(path)
        yield f"{root}\\{path}"

    def value(key: str, name: str) -> tuple[str, int]:
        assert key == r"HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        return ({"ProcessorNameString": "AMD Ryzen 7 5800X 8-Core Processor             "}[name], 1)

    registry = SimpleNamespace(HKEY_LOCAL_MACHINE="HKLM", OpenKey=opened, QueryValueEx=value)
    kernel32 = SimpleNamespace(IsProcessorFeaturePresent=lambda number: number in (10, 13, 36, 39, 40))
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    found = portable._windows_processor()
    assert found == (("AMD Ryzen 7 5800X 8-Core Processor", ["pni", "ssse3", "avx", "avx2"]) if named else (None, []))


def test_every_flag_of_windows_is_one_that_llama_cpp_knows() -> None:
    assert set(portable.WINDOWS_FEATURES.values()) <= set(cpu.FEATURES)
