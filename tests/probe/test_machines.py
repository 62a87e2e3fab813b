"""Recorded machines: each folder's root must give its expected document. A bug report becomes one more folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe import cpu, memory, probe

MACHINES = Path(__file__).parent.parent / "fixtures" / "machines"


def recorded(name: str, **environ: str) -> Host:
    return Host(root=MACHINES / name / "root", environ=environ)


@pytest.mark.parametrize("name", sorted(folder.name for folder in MACHINES.iterdir()))
def test_recorded_machine(name: str) -> None:
    expected = json.loads((MACHINES / name / "expected.json").read_text("utf-8"))
    machine = probe(recorded(name), store=Path("/models"))
    assert json.loads(json.dumps(asdict(machine))) == expected


@pytest.mark.parametrize(
    ("environ", "container"),
    [
        ({}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"container": "lxc"}, "lxc"),
        ({"container": "podman"}, "podman"),
    ],
)
def test_containers_that_only_the_environment_names(environ: dict[str, str], container: str | None) -> None:
    assert probe(recorded("plain-desktop", **environ), store=Path("/models")).container == container


def test_an_empty_machine_is_told_in_notes(tmp_path: Path) -> None:
    machine = probe(Host(root=tmp_path, environ={}), store=Path("/models"))
    assert machine.memory.total_bytes == 0
    assert len(machine.notes) == 2


def test_last_cache() -> None:
    assert cpu.cache_bytes(recorded("raspberry-pi-5")) == 2 << 20
    assert cpu.cache_bytes(recorded("plain-desktop")) is None


def test_this_machine_agrees_with_psutil() -> None:
    """Two ways to the same facts: /proc, and psutil, which is used where there is no /proc."""
    machine = probe(Host(), store=Path("/"))
    portable = memory.portable()
    assert machine.memory.total_bytes == portable.total_bytes
    assert machine.memory.swap_bytes == portable.swap_bytes
    assert machine.cpu.name == cpu.name(Host())
    assert machine.disk is not None
    assert machine.disk.free_bytes > 0


def test_the_processor_without_proc() -> None:
    found = cpu.portable()
    machine = probe(Host(), store=Path("/"))
    assert (found.arch, found.logical_cores) == (machine.cpu.arch, machine.cpu.logical_cores)
    assert found.features == machine.cpu.features


def test_disk_of_a_store_that_is_yet_to_be_made(tmp_path: Path) -> None:
    machine = probe(Host(), store=tmp_path / "not" / "yet")
    assert machine.disk is not None
    assert machine.disk.path == str(tmp_path / "not" / "yet")
    assert machine.disk.free_bytes > 0
