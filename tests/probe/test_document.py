"""Machine documents: what may be left out, what is wrong and where, and that doctor's own output is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.engine.devices.machine import this_machine
from llmctl.errors import ConfigError, NotFoundError
from llmctl.files.decode import FieldError, decode
from llmctl.paths import profiles_dir
from llmctl.probe.described import table
from llmctl.probe.described.document import known_machines, read_machine
from llmctl.probe.recorded.recording import recorded
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Disk, Machine, Memory, Network, Note

RECORDED = Path(__file__).parent.parent / "fixtures" / "machines"

DEVICES = table.load(profiles_dir())

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
    kernels=Kernels((MatrixRate("Q4_K", True, 2, 40e9, 5e11),)),
    notes=(Note("something", "mend it"), Note("odd")),
)


NO_PROCESSOR = Note(
    "the document names no processor: 4 cores are assumed", "physical_cores = NUMBER   (in the document's cpu)"
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
    assert machine.notes == (NO_PROCESSOR,)


def test_one_number_of_cores_stands_for_the_others(tmp_path: Path) -> None:
    document = {"memory": {"total_bytes": 1}, "cpu": {"physical_cores": 6, "logical_cores": 12}}
    cpu = read_machine(write(tmp_path, document), tmp_path).cpu
    assert (cpu.physical_cores, cpu.logical_cores, cpu.usable_threads) == (6, 12, 6)


def test_an_accelerator_that_nobody_knows_needs_its_memory(tmp_path: Path) -> None:
    document = {"memory": {"total_bytes": 1}, "accelerators": [{"name": "RTX 9090", "memory_total_bytes": 48 << 30}]}
    (card,) = read_machine(write(tmp_path, document), tmp_path).accelerators
    assert card == Accelerator(
        "accelerator0", "RTX 9090", "unknown", AcceleratorKind.DISCRETE, 48 << 30, 48 << 30, usable=True
    )


def completed(tmp_path: Path, *cards: dict[str, Any], **machine: Any) -> Machine:
    document = {"memory": {"total_bytes": 64 << 30}, "accelerators": list(cards), **machine}
    return read_machine(write(tmp_path, document), tmp_path)


SPECIFIED = "specified (profiles/devices.toml)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RTX 4090", ("NVIDIA", "discrete", 24 << 30, 1008e9, "8.9", None, "CUDA")),
        ("NVIDIA GeForce RTX 3060 12GB", ("NVIDIA", "discrete", 12 << 30, 360e9, "8.6", None, "CUDA")),
        ("RTX 4060 Ti 16GB", ("NVIDIA", "discrete", 16 << 30, 288e9, "8.9", None, "CUDA")),
        ("GeForce RTX 4070 Laptop GPU", ("NVIDIA", "discrete", 8 << 30, 256e9, "8.9", None, "CUDA")),
        ("Radeon RX 7900 XTX", ("AMD", "discrete", 24 << 30, 960e9, None, "gfx1100", "Vulkan")),
        ("Arc B580", ("Intel", "discrete", 12 << 30, 456e9, None, None, "Vulkan")),
        # without memory of their own: what drivers let them have of the machine's 64 GiB
        ("Radeon 8060S", ("AMD", "integrated", 32 << 30, 256e9, None, "gfx1151", "Vulkan")),
        ("Arc 140V", ("Intel", "integrated", 48 << 30, 136.5e9, None, None, "Vulkan")),
        ("Radeon 780M", ("AMD", "integrated", 32 << 30, None, None, "gfx1103", "Vulkan")),
        ("NVIDIA GB10", ("NVIDIA", "unified", 64 << 30, 273e9, "12.1", None, "CUDA")),
        ("Apple M4 Max (40-core GPU)", ("Apple", "unified", 48 << 30, 546e9, None, None, "Metal")),
    ],
)
def test_an_accelerator_needs_only_a_name(tmp_path: Path, name: str, expected: tuple[Any, ...]) -> None:
    machine = completed(tmp_path, {"name": name})
    (card,) = machine.accelerators
    assert (
        card.vendor,
        card.kind,
        card.memory_total_bytes,
        card.bandwidth_bytes_per_s,
        card.compute_capability,
        card.architecture,
        card.engine_backend,
    ) == expected
    assert (card.id, card.name, card.usable, card.why) == ("accelerator0", name, True, None)
    assert card.memory_free_bytes == card.memory_total_bytes
    assert card.bandwidth_basis == (SPECIFIED if card.bandwidth_bytes_per_s else None)
    shared = card.kind is not AcceleratorKind.DISCRETE
    assert card.shared_bytes == (card.memory_total_bytes if shared else None)
    assert machine.memory.bandwidth_bytes_per_s == (card.bandwidth_bytes_per_s if shared else None)
    assert machine.notes == (NO_PROCESSOR,)


def test_what_the_document_says_wins(tmp_path: Path) -> None:
    given = {
        "id": "0000:01:00.0",
        "name": "RTX 4090",
        "vendor": "NVIDIA",
        "memory_total_bytes": 48 << 30,  # somebody gave it other chips
        "memory_free_bytes": 40 << 30,
        "bandwidth_bytes_per_s": 900e9,
        "compute_capability": None,
        "engine_backend": "Vulkan",
        "usable": False,
        "why": "the driver is too old",
    }
    (card,) = completed(tmp_path, given).accelerators
    assert {name: getattr(card, name) for name in given} == given
    assert (card.kind, card.bandwidth_basis) == (AcceleratorKind.DISCRETE, None)
    (other,) = completed(tmp_path, {"name": "RTX 4090", "memory_total_bytes": 48 << 30}).accelerators
    assert (other.memory_free_bytes, other.bandwidth_bytes_per_s) == (48 << 30, 1008e9)


def test_a_gpu_on_the_machines_memory_is_as_fast_as_that(tmp_path: Path) -> None:
    memory = {"total_bytes": 32 << 30, "available_bytes": 10 << 30, "system": "DDR5-5600 dual channel"}
    machine = completed(tmp_path, {"name": "Radeon 780M"}, memory=memory)
    assert (machine.memory.bandwidth_bytes_per_s, machine.memory.bandwidth_basis) == (89.6e9, SPECIFIED)
    (card,) = machine.accelerators
    assert (card.bandwidth_bytes_per_s, card.bandwidth_basis) == (89.6e9, SPECIFIED)
    assert (card.memory_total_bytes, card.memory_free_bytes) == (16 << 30, 10 << 30)
    unlisted = completed(tmp_path, {"name": "Mali-G720", "kind": "integrated"}, memory=memory).accelerators[0]
    assert (unlisted.memory_total_bytes, unlisted.bandwidth_bytes_per_s) == (16 << 30, 89.6e9)


@pytest.mark.parametrize(
    ("names", "bandwidth"),
    [
        ({"cpu": {"name": "Apple M3 Max"}}, 300e9),
        ({"cpu": {"name": "Apple M3 Max"}, "accelerators": [{"name": "Apple M3 Max (40-core GPU)"}]}, 400e9),
        ({"cpu": {"name": "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"}}, 256e9),
        ({"cpu": {"name": "Cortex-A76"}, "board": "Raspberry Pi 5 Model B Rev 1.0"}, 17.1e9),
        ({"cpu": {"name": "AMD EPYC 9654 96-Core Processor"}}, None),
        ({"memory": {"total_bytes": 1 << 30, "system": "ddr4-3200, dual channel"}}, 51.2e9),
        ({"memory": {"total_bytes": 1 << 30, "system": "EPYC 9004"}}, 460.8e9),
        ({"memory": {"total_bytes": 1 << 30, "bandwidth_bytes_per_s": 5e9}, "cpu": {"name": "Apple M4"}}, 5e9),
        ({"memory": {"total_bytes": 1 << 30, "bandwidth_bytes_per_s": None}, "cpu": {"name": "Apple M4"}}, None),
    ],
)
def test_bandwidth_of_memory_by_name(tmp_path: Path, names: dict[str, Any], bandwidth: float | None) -> None:
    document = {"memory": {"total_bytes": 32 << 30}, **names}
    assert read_machine(write(tmp_path, document), tmp_path).memory.bandwidth_bytes_per_s == bandwidth


@pytest.mark.parametrize(
    ("name", "size", "note", "remedy"),
    [
        (
            "RTX 3060",
            8,
            "there are several kinds of GeForce RTX 3060 (12 GB, 360 GB/s; 8 GB, 240 GB/s): the slowest is assumed",
            "memory_total_bytes = NUMBER   (and bandwidth_bytes_per_s, in the document's accelerators[0])",
        ),
        (
            "RTX 4060 Ti",
            8,
            "GeForce RTX 4060 Ti is sold with 8 GB or 16 GB, 288 GB/s: the least is assumed",
            "memory_total_bytes = NUMBER   (in the document's accelerators[0])",
        ),
    ],
)
def test_of_several_kinds_one_is_assumed(tmp_path: Path, name: str, size: int, note: str, remedy: str) -> None:
    machine = completed(tmp_path, {"name": name}, cpu={"physical_cores": 8})
    assert machine.accelerators[0].memory_total_bytes == size << 30
    assert machine.notes == (Note(note, remedy),)
    sure = completed(tmp_path, {"name": name, "memory_total_bytes": 8 << 30}, cpu={"physical_cores": 8})
    assert sure.notes == ()


def test_a_chip_of_two_speeds_is_said_of_memory(tmp_path: Path) -> None:
    (note,) = completed(tmp_path, cpu={"name": "Apple M3 Max", "physical_cores": 14}).notes
    assert note.message.startswith("there are several kinds of Apple M3 Max")
    assert note.remedy == "bandwidth_bytes_per_s = NUMBER   (in the document's memory)"


def test_a_note_may_be_a_text(tmp_path: Path) -> None:
    """What doctor wrote before notes had remedies, and what people write; what it says already is not said again."""
    old = ["something", {"message": "odd", "remedy": "mend it"}, NO_PROCESSOR.message]
    assert completed(tmp_path, notes=old).notes == (
        Note("something"),
        Note("odd", "mend it"),
        Note(NO_PROCESSOR.message),
    )
    assert completed(tmp_path, notes=["something"]).notes == (Note("something"), NO_PROCESSOR)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"accelerators": [{"name": "RTX 4091"}]},
            "machine.accelerators[0].memory_total_bytes is missing, and profiles/devices.toml has no "
            '"RTX 4091"; it knows "GeForce RTX 4090"',
        ),
        ({"accelerators": [{"name": "?"}]}, 'profiles/devices.toml has no "?"'),
        ({"accelerators": [{"name": "RTX 4091", "usable": "yes"}]}, "accelerators[0].usable must be true or false"),
        (
            {"memory": {"total_bytes": 1, "system": "DDR5-5601 dual channel"}},
            'machine.memory.system must be a line of profiles/devices.toml, like "DDR5-5600 dual channel"',
        ),
        (
            {"memory": {"total_bytes": 1, "system": 5600}},
            "machine.memory.system must be a line of profiles/devices.toml",
        ),
        ({"memory": {"total_bytes": 1, "system": "GeForce RTX 4090"}}, "machine.memory.system must be a line of"),
    ],
)
def test_names_that_the_table_does_not_know(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_machine(write(tmp_path, {"memory": {"total_bytes": 1}, **document}), tmp_path)
    assert said in caught.value.message


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
        ({"memory": {"total_bytes": 1 << 70}}, "machine.memory.total_bytes", "must be less than 9,223,372,036"),
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
        ({"memory": {"total_bytes": 1}, "notes": ["a", 1]}, "machine.notes[1]", "must be a table with message, remedy"),
        ({"memory": {"total_bytes": 1}, "notes": [{"remedy": "x"}]}, "machine.notes[0].message", "is missing"),
        ({"memory": {"total_bytes": 1}, "notes": [{"message": []}]}, "machine.notes[0].message", "must be text"),
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
def test_the_machines_that_ship(tmp_path: Path, name: str) -> None:
    machine = read_machine(name, profiles_dir() / "machines")
    assert machine.memory.total_bytes >= machine.memory.available_bytes > 0
    assert machine.cpu.usable_threads <= machine.cpu.physical_cores
    assert machine.memory.bandwidth_basis
    assert machine.notes == ()
    for card in machine.accelerators:
        assert card.bandwidth_basis
        assert card.engine_backend
        assert (card.memory_total_bytes or 0) >= (card.memory_free_bytes or 0) > 0
    assert read_machine(write(tmp_path, plain(machine)), tmp_path) == machine


@pytest.mark.parametrize("folder", sorted(RECORDED.iterdir()), ids=lambda folder: folder.name)
def test_what_doctor_says_of_a_machine_is_read_back_as_it_is(tmp_path: Path, folder: Path) -> None:
    machine, _ = this_machine(recorded(folder), store=Path("/models"))
    assert (
        read_machine(write(tmp_path, {"data": {"machine": plain(machine)}, "schema": "llmctl/1"}), tmp_path) == machine
    )


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(plain(FULL))), ANY)
def test_any_value_is_taken_or_refused(field: str, value: Any) -> None:
    try:
        machine = decode(Machine, plain(FULL) | {field: value}, "machine")
    except FieldError as error:
        assert error.field.startswith(f"machine.{field}")
    else:
        assert replace(machine, **{field: getattr(FULL, field)}) == FULL
