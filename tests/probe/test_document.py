"""Machine documents: what may be left out, what is wrong and where, and that doctor's own output is one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import ConfigError, NotFoundError
from llmctl.paths import profiles_dir
from llmctl.probe.decode import MismatchError, decode
from llmctl.probe.document import known_machines, read_machine
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Disk, KernelRate, Machine, Memory, Network

FULL = Machine(
    memory=Memory(32 << 30, 20 << 30, 24 << 30, "/sys/fs/cgroup/memory.max", 1 << 30, 41.5e9, "measured"),
    cpu=Cpu("AMD EPYC", "x86_64", 8, 16, 6, ("AVX2", "AVX512")),
    accelerators=(
        Accelerator("0000:01:00.0", "RTX 3090", "NVIDIA", AcceleratorKind.DISCRETE, 24 << 30, 23 << 30, usable=True),
    ),
    disk=Disk("/models", 10**12),
    network=Network(True, 12.5e6),
    os="Linux 6.8",
    container="docker",
    kernels=(KernelRate("Q4_K", 40e9, 5e11, True),),
    notes=("something",),
)


def write(folder: Path, document: Any, name: str = "machine.json") -> str:
    file = folder / name
    file.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return str(file)


def plain(machine: Machine) -> Any:
    return json.loads(json.dumps(asdict(machine)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda machine: machine,
        lambda machine: {"machine": machine, "engines": [], "checks": []},
        lambda machine: {"schema": "llmctl/1", "command": "doctor", "data": {"machine": machine}, "error": None},
    ],
)
def test_a_machine_survives_the_way_through_a_document(tmp_path: Path, wrap: Any) -> None:
    assert read_machine(write(tmp_path, wrap(plain(FULL))), tmp_path) == FULL


def test_only_memory_must_be_there(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, "[memory]\ntotal_bytes = 8_000_000_000\n", "board.toml"), tmp_path)
    assert machine.memory == Memory(8_000_000_000, 8_000_000_000)
    assert machine.cpu.usable_threads == 4
    assert machine.notes == ("the document names no processor: 4 cores are assumed",)


def test_one_number_of_cores_stands_for_the_others(tmp_path: Path) -> None:
    document = {"memory": {"total_bytes": 1}, "cpu": {"physical_cores": 6, "logical_cores": 12}}
    cpu = read_machine(write(tmp_path, document), tmp_path).cpu
    assert (cpu.physical_cores, cpu.logical_cores, cpu.usable_threads) == (6, 12, 6)


def test_an_accelerator_needs_only_a_name(tmp_path: Path) -> None:
    document = {"memory": {"total_bytes": 1}, "accelerators": [{"name": "RTX 4090", "memory_total_bytes": 24 << 30}]}
    (card,) = read_machine(write(tmp_path, document), tmp_path).accelerators
    assert card.usable
    assert card.memory_free_bytes == 24 << 30


@pytest.mark.parametrize(
    ("document", "where", "problem"),
    [
        ({}, "machine.memory", "is missing"),
        ([], "machine", "must be a table with memory"),
        ({"memory": 8}, "machine.memory", "must be a table with total_bytes"),
        ({"memory": {}}, "machine.memory.total_bytes", "is missing"),
        ({"memory": {"total_bytes": "8 GB"}}, "machine.memory.total_bytes", "must be a whole number"),
        ({"memory": {"total_bytes": True}}, "machine.memory.total_bytes", "must be a whole number"),
        ({"memory": {"total_bytes": -1}}, "machine.memory.total_bytes", "must be a whole number"),
        ({"memory": {"total_bytes": 1 << 70}}, "machine.memory.total_bytes", "must be a whole number"),
        ({"memory": {"total_bytes": 1.5}}, "machine.memory.total_bytes", "must be a whole number"),
        ({"memory": {"total_bytes": 1, "speed": 2}}, "machine.memory.speed", "is not known, there are total_bytes"),
        ({"memory": {"total_bytes": 1}, "ram": 1}, "machine.ram", "is not known, there are memory"),
        ({"memory": {"total_bytes": 1, "bandwidth_bytes_per_s": "fast"}}, "bandwidth_bytes_per_s", "must be a number"),
        ({"memory": {"total_bytes": 1}, "cpu": []}, "machine.cpu", "must be a table"),
        ({"memory": {"total_bytes": 1}, "cpu": {"features": "AVX2"}}, "machine.cpu.features", "must be a list"),
        ({"memory": {"total_bytes": 1}, "cpu": {"features": [1]}}, "machine.cpu.features[0]", "must be text"),
        ({"memory": {"total_bytes": 1}, "accelerators": [{}]}, "machine.accelerators[0].name", "is missing"),
        ({"memory": {"total_bytes": 1}, "accelerators": ["RTX"]}, "machine.accelerators[0]", "must be a table"),
        (
            {"memory": {"total_bytes": 1}, "accelerators": [{"name": "x", "kind": "huge"}]},
            "machine.accelerators[0].kind",
            "must be one of discrete, integrated, unified",
        ),
        (
            {"memory": {"total_bytes": 1}, "accelerators": [{"name": "x", "usable": 1}]},
            "usable",
            "must be true or false",
        ),
        ({"memory": {"total_bytes": 1}, "notes": "none"}, "machine.notes", "must be a list"),
        ({"schema": "llmctl/1", "data": None}, "machine", "must be a table"),
    ],
)
def test_errors_name_file_field_and_what_was_expected(tmp_path: Path, document: Any, where: str, problem: str) -> None:
    file = write(tmp_path, document)
    with pytest.raises(ConfigError) as caught:
        read_machine(file, tmp_path)
    assert file in caught.value.message
    assert f"{where} {problem}" in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "9" * 5000, "not valid JSON"),
        ("a.toml", "memory = ", "not valid TOML"),
        ("a.json", " " * 1_100_000, "larger than 1,048,576 bytes"),
        (
            "a.json",
            '{"memory": {"total_bytes": 1, "bandwidth_bytes_per_s": NaN}}',
            "bandwidth_bytes_per_s must be a number",
        ),
    ],
)
def test_files_that_are_no_document(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_machine(write(tmp_path, text, name), tmp_path)


def test_undecodable_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_machine(str(tmp_path / "a.json"), tmp_path)


def test_names(tmp_path: Path) -> None:
    write(tmp_path, plain(FULL), "office.json")
    write(tmp_path, "[memory]\ntotal_bytes = 1\n", "board.toml")
    assert known_machines(tmp_path) == ["board", "office"]
    assert read_machine("office", tmp_path) == FULL
    with pytest.raises(NotFoundError, match=r"no machine named desk \(known: board, office\)"):
        read_machine("desk", tmp_path)
    with pytest.raises(NotFoundError, match=r"no machine document desk\.toml"):
        read_machine("desk.toml", tmp_path)
    assert known_machines(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", known_machines(profiles_dir() / "machines"))
def test_the_machines_that_ship(name: str) -> None:
    machine = read_machine(name, profiles_dir() / "machines")
    assert machine.memory.total_bytes >= machine.memory.available_bytes > 0
    assert machine.cpu.usable_threads <= machine.cpu.physical_cores
    assert machine.memory.bandwidth_basis


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(plain(FULL))), ANY)
def test_any_value_is_taken_or_refused(field: str, value: Any) -> None:
    try:
        machine = decode(Machine, plain(FULL) | {field: value}, "machine")
    except MismatchError as error:
        assert error.where.startswith(f"machine.{field}")
    else:
        assert replace(machine, **{field: getattr(FULL, field)}) == FULL
