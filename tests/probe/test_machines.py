"""Recorded machines: each folder must give its expected document. A bug report becomes one more folder.

python -m tests.probe.test_machines [NAME ...]      writes expected.json anew; read the difference before it stays
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmctl.checks.capture import EXPECTED, document, written
from llmctl.host import Host
from llmctl.probe import probe
from llmctl.probe.portable import portable
from llmctl.probe.recorded.recording import Recorded, recorded

MACHINES = Path(__file__).parent.parent / "fixtures" / "machines"
NAMES = sorted(folder.name for folder in MACHINES.iterdir())


def machine(name: str, **environ: str) -> Recorded:
    host = recorded(MACHINES / name)
    return replace(host, environ={**host.environ, **environ})


@pytest.mark.parametrize("name", NAMES)
def test_recorded_machine(name: str) -> None:
    expected = json.loads((MACHINES / name / EXPECTED).read_text("utf-8"))
    assert document(machine(name)) == expected


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
    assert probe(machine("plain-desktop", **environ), store=Path("/models")).container == container


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_an_empty_machine_is_told_in_notes(tmp_path: Path, system: str) -> None:
    found = probe(Host(root=tmp_path, environ={}, system=system), store=Path("/models"))
    assert found.memory.total_bytes == 0
    assert len(found.notes) == 3


def test_last_cache() -> None:
    def last(name: str) -> int | None:
        return probe(machine(name), store=Path("/models")).cpu.last_cache_bytes

    assert last("raspberry-pi-5") == 2 << 20
    assert last("plain-desktop") is None


def test_this_machine_agrees_with_psutil() -> None:
    """Two ways to the same facts: /proc, and psutil, which is used where there is no /proc."""
    found = probe(Host(), store=Path("/"))
    told, why = portable(Host())
    assert told is not None, why
    assert (found.memory.total_bytes, found.memory.swap_bytes) == (told.memory_total_bytes, told.swap_bytes)
    assert (found.cpu.arch, found.cpu.logical_cores) == (told.arch, told.logical_cores)
    assert found.cpu.name == told.cpu_name
    elsewhere = probe(replace(Host(), root=Path("/nowhere"), system="win32"), store=Path("/"))
    assert elsewhere.cpu.features == ()
    assert found.disk is not None
    assert found.disk.free_bytes > 0


def test_disk_of_a_store_that_is_yet_to_be_made(tmp_path: Path) -> None:
    found = probe(Host(), store=tmp_path / "not" / "yet").disk
    assert found is not None
    assert found.path == str(tmp_path / "not" / "yet")
    assert found.free_bytes > 0
    assert found.filesystem


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        (MACHINES / name / EXPECTED).write_text(written(document(machine(name))), encoding="utf-8")
