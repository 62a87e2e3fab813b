"""Each card once, what drivers hide from the table, and what drivers tell against it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.paths import profiles_dir
from llmctl.probe import probe
from llmctl.probe.described import table
from llmctl.probe.described.document import CORRECT
from llmctl.probe.gpu import merge
from llmctl.probe.recorded.recording import Recorded, Recording
from llmctl.probe.system import Platform
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Memory, Note

DEVICES = table.load(profiles_dir())
GIB = 1 << 30
MEMORY = Memory(32 * GIB, 20 * GIB)
CPU = Cpu("some processor", "x86_64", 8, 16, 8)
HERE = Platform("Linux 6.8")
SPECIFIED = "specified (profiles/devices.toml)"
DISCRETE, INTEGRATED, UNIFIED = AcceleratorKind.DISCRETE, AcceleratorKind.INTEGRATED, AcceleratorKind.UNIFIED


def card(name: str, kind: AcceleratorKind = DISCRETE, total: int | None = None, **more: object) -> Accelerator:
    known = {"id": "0000:01:00.0", "vendor": "NVIDIA", "memory_free_bytes": None, **more}
    return Accelerator(name=name, kind=kind, memory_total_bytes=total, **known)  # type: ignore[arg-type]


def merged(
    *cards: Accelerator, memory: Memory = MEMORY, cpu: str = CPU.name, board: str | None = None
) -> tuple[tuple[Accelerator, ...], Memory, tuple[Note, ...]]:
    return merge.merge(cards, memory, replace(CPU, name=cpu), replace(HERE, board=board), DEVICES)


def test_what_a_driver_hides_comes_from_the_table() -> None:
    (full,), memory, notes = merged(card("NVIDIA GeForce RTX 3090", pci_id="10de:2204"))
    assert (full.memory_total_bytes, full.memory_free_bytes) == (24 * GIB, None)
    assert (full.bandwidth_bytes_per_s, full.bandwidth_basis) == (936e9, SPECIFIED)
    assert full.compute_capability == "8.6"
    assert (memory, notes) == (MEMORY, ())


def test_what_a_driver_tells_stays() -> None:
    told = card(
        "NVIDIA GeForce RTX 3090",
        total=25_757_220_864,
        memory_free_bytes=24_000_000_000,
        bandwidth_bytes_per_s=936.096e9,
        bandwidth_basis="memory clock x bus width (NVML)",
        compute_capability="8.6",
    )
    assert merged(told) == ((replace(told, compute_flop_per_s=71_162_880_000_000.0),), MEMORY, ())


@pytest.mark.parametrize(
    ("given", "pci_id", "total", "name", "bandwidth"),
    [
        ("AMD GPU (1002:744c)", "1002:744c", 25_753_026_560, "AMD Radeon RX 7900 XTX", 960e9),
        (
            "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]",
            "1002:744c",
            21_458_059_264,
            "AMD Radeon RX 7900 XT",
            800e9,
        ),
        ("AMD GPU (1002:7550)", "1002:7550", 16 * GIB, "AMD Radeon RX 9070 or Radeon RX 9070 XT", 640e9),
        ("Sapphire NITRO+", "1002:7551", 32 * GIB, "Sapphire NITRO+", 640e9),
        ("AMD GPU (1002:ffff)", "1002:ffff", 16 * GIB, "AMD GPU (1002:ffff)", None),
        ("AMD GPU", None, 16 * GIB, "AMD GPU", None),
    ],
)
def test_a_number_becomes_a_name(
    given: str, pci_id: str | None, total: int, name: str, bandwidth: float | None
) -> None:
    (named,), _, notes = merged(card(given, total=total, vendor="AMD", pci_id=pci_id))
    assert (named.name, named.bandwidth_bytes_per_s) == (name, bandwidth)
    assert named.memory_total_bytes == total
    assert notes == ()


def test_the_target_that_kernels_are_compiled_for() -> None:
    (full,), _, _ = merged(card("AMD Radeon RX 7800 XT", vendor="AMD", total=16 * GIB))
    assert full.architecture == "gfx1101"
    (told,), _, _ = merged(card("AMD Radeon RX 7800 XT", vendor="AMD", total=16 * GIB, architecture="gfx1100"))
    assert told.architecture == "gfx1100"


def test_a_size_that_is_not_sure_is_left_to_the_engine() -> None:
    (full,), _, notes = merged(card("Arc A770", vendor="Intel", pci_id="8086:56a0"))
    assert (full.memory_total_bytes, full.bandwidth_bytes_per_s) == (None, 512e9)
    assert notes == (
        Note("there are several kinds of Arc A770 (16 GB, 560 GB/s; 8 GB, 512 GB/s): the slowest is assumed", CORRECT),
    )
    (sure,), _, notes = merged(card("Arc B580", vendor="Intel", pci_id="8086:e20b"))
    assert (sure.memory_total_bytes, sure.bandwidth_bytes_per_s, notes) == (12 * GIB, 456e9, ())
    (sizes,), _, notes = merged(card("GeForce RTX 4060 Ti"))
    assert (sizes.memory_total_bytes, sizes.bandwidth_bytes_per_s, notes) == (None, 288e9, ())


@pytest.mark.parametrize(
    ("name", "total", "told", "note"),
    [
        ("NVIDIA GeForce RTX 3090", 24, 936.096e9, None),
        ("NVIDIA GeForce RTX 4070", 12, 480e9, None),  # with GDDR6: within 10 %
        ("NVIDIA GeForce RTX 3060 Ti", 8, 608e9, None),  # the kind with GDDR6X
        ("NVIDIA GeForce RTX 3060 Ti", 8, 448e9, None),
        ("NVIDIA GeForce RTX 3070 Laptop GPU", 8, 384e9, None),  # makers choose, NVIDIA specifies none
        ("NVIDIA GeForce RTX 9090", 48, 3000e9, None),
        (
            "NVIDIA GeForce RTX 3090",
            24,
            800e9,
            "NVIDIA GeForce RTX 3090 (0000:01:00.0): by its driver the memory's bandwidth is 800 GB/s, specified is "
            "936 GB/s (profiles/devices.toml): the driver's counts",
        ),
        (
            "NVIDIA GeForce RTX 3060 Ti",
            8,
            700e9,
            "NVIDIA GeForce RTX 3060 Ti (0000:01:00.0): by its driver the memory's bandwidth is 700 GB/s, specified is "
            "608 GB/s (profiles/devices.toml): the driver's counts",
        ),
    ],
)
def test_the_drivers_bandwidth_is_held_against_the_table(name: str, total: int, told: float, note: str | None) -> None:
    (same,), _, notes = merged(card(name, total=total * GIB, bandwidth_bytes_per_s=told, bandwidth_basis="NVML"))
    assert (same.bandwidth_bytes_per_s, same.bandwidth_basis) == (told, "NVML")
    assert notes == ((Note(note),) if note else ())


def test_a_slice_is_not_its_card() -> None:
    part = card(
        "NVIDIA A100-SXM4-80GB MIG 3g.40gb", total=39 * GIB, parent="0000:01:00.0", pci_id="10de:20b2", id="MIG-1"
    )
    assert merged(part) == ((part,), MEMORY, ())
    nameless = replace(part, name="NVIDIA A100-SXM4-80GB")
    assert merged(nameless) == ((nameless,), MEMORY, ())
    part = replace(part, bandwidth_bytes_per_s=1e12, bandwidth_basis="4/8 of memory clock x bus width (NVML)")
    assert merged(part) == ((part,), MEMORY, ())


def test_a_card_seen_twice_is_one() -> None:
    own = card("NVIDIA GeForce RTX 3090", total=24 * GIB, memory_free_bytes=23 * GIB, driver="550.90.07")
    other = card("NVIDIA GPU (10de:2204)", total=1, memory_free_bytes=1, driver="nouveau", pcie="gen4 x16")
    second = replace(own, id="0000:02:00.0")
    cards, _, _ = merged(own, second, other)
    assert [one.id for one in cards] == ["0000:01:00.0", "0000:02:00.0"]
    assert (cards[0].name, cards[0].driver, cards[0].pcie) == (own.name, "550.90.07", "gen4 x16")
    assert (cards[0].memory_total_bytes, cards[0].memory_free_bytes) == (24 * GIB, 23 * GIB)
    (named,), _, _ = merged(other, own)
    assert (named.name, named.memory_total_bytes, named.driver) == (own.name, 1, "nouveau")


@pytest.mark.parametrize(
    ("cpu", "board", "cards", "bandwidth"),
    [
        ("Cortex-A76", "Raspberry Pi 5 Model B Rev 1.0", [], 17.1e9),
        ("Cortex-A72", "Raspberry Pi 4 Model B Rev 1.4", [], 12.8e9),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", None, [], 256e9),
        ("Intel(R) Core(TM) Ultra 7 258V", None, [], 136.5e9),
        ("Apple M4 Pro", None, [], 273e9),
        ("Apple M3 Max", None, [card("Apple M3 Max (40-core GPU)", UNIFIED, vendor="Apple")], 400e9),
        ("Cortex-X925", None, [card("NVIDIA GB10", UNIFIED)], 273e9),
        ("some processor", None, [card("AMD Radeon 8060S Graphics", INTEGRATED, vendor="AMD")], 256e9),
        ("some processor", None, [card("AMD Radeon 780M Graphics", INTEGRATED, vendor="AMD")], None),
        ("some processor", None, [card("NVIDIA GeForce RTX 3090")], None),
        ("NVIDIA GeForce RTX 3090", None, [], None),  # of a card, not of a chip
        ("DDR5-5600 dual channel", None, [], None),  # nobody knows how many modules there are
        ("AMD EPYC 9654 96-Core Processor", None, [], None),
        ("Cortex-A76", "some board", [], None),
    ],
)
def test_memory_that_is_soldered_on(
    cpu: str, board: str | None, cards: list[Accelerator], bandwidth: float | None
) -> None:
    whole, memory, notes = merged(*cards, cpu=cpu, board=board)
    assert (memory.bandwidth_bytes_per_s, memory.bandwidth_basis) == (bandwidth, SPECIFIED if bandwidth else None)
    for one in whole:
        if one.kind is not DISCRETE:  # a GPU without memory of its own is as fast as the machine's
            assert (one.bandwidth_bytes_per_s, one.bandwidth_basis) == (bandwidth, SPECIFIED if bandwidth else None)
            assert one.memory_total_bytes is None
    assert notes == ()


def test_a_measured_bandwidth_stays() -> None:
    measured = replace(MEMORY, bandwidth_bytes_per_s=90e9, bandwidth_basis="measured")
    (gpu,), memory, _ = merged(card("Apple M4", UNIFIED, vendor="Apple"), memory=measured, cpu="Apple M4")
    assert memory == measured
    assert (gpu.bandwidth_bytes_per_s, gpu.bandwidth_basis) == (90e9, "measured")


def test_a_jetson_is_known_by_its_board() -> None:
    """Its GPU's name is that of the chip, and 8 GB boards with it have two speeds."""
    small = Memory(7_989_600_256, 6 * GIB)
    gpu = card("Orin (nvgpu)", UNIFIED, total=7_989_600_256)
    board = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    (known,), memory, notes = merged(gpu, memory=small, board=board)
    assert (memory.bandwidth_bytes_per_s, known.bandwidth_bytes_per_s) == (102e9, 102e9)
    assert (known.name, known.compute_capability, known.memory_total_bytes) == ("Orin (nvgpu)", "8.7", 7_989_600_256)
    assert notes == ()
    (unknown,), memory, _ = merged(gpu, memory=small)
    assert (memory.bandwidth_bytes_per_s, unknown.bandwidth_bytes_per_s) == (None, None)
    assert unknown.compute_capability == "8.7"


def test_a_chip_of_two_speeds_is_said_once() -> None:
    (gpu,), memory, notes = merged(card("Apple M4 Max", UNIFIED, vendor="Apple"), cpu="Apple M4 Max")
    assert (gpu.bandwidth_bytes_per_s, memory.bandwidth_bytes_per_s) == (410e9, 410e9)
    (note,) = notes
    assert "32-core GPU, 410 GB/s; 40-core GPU, 546 GB/s" in note.message
    assert note.remedy == CORRECT


def test_without_a_table() -> None:
    one = card("NVIDIA GeForce RTX 3090")
    assert merge.merge([one], MEMORY, CPU, HERE, ()) == ((one,), MEMORY, ())


@given(
    st.lists(
        st.builds(
            card,
            st.one_of(st.sampled_from([device.name for device in DEVICES]), st.text(max_size=20)),
            st.sampled_from(AcceleratorKind),
            st.none() | st.integers(0, 1 << 40),
            id=st.sampled_from("abc"),
            vendor=st.sampled_from(["NVIDIA", "AMD", "Intel", "Apple", "unknown"]),
            bandwidth_bytes_per_s=st.none() | st.floats(1, 1e13),
            pci_id=st.none() | st.sampled_from(["1002:744c", "10de:2204", "8086:56a0"]),
        ),
        max_size=4,
    ),
    st.text(max_size=20),
    st.none() | st.text(max_size=20),
)
def test_whatever_the_parts_found(cards: list[Accelerator], cpu: str, board: str | None) -> None:
    whole, memory, notes = merged(*cards, cpu=cpu, board=board)
    assert [one.id for one in whole] == list(dict.fromkeys(one.id for one in cards))
    again, same, _ = merged(*whole, memory=memory, cpu=cpu, board=board)
    assert (again, same) == (whole, memory)  # what is complete stays
    assert len(notes) == len(set(notes))


def test_a_broken_table_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "root/proc/device-tree"
    device.mkdir(parents=True)
    (device / "model").write_text("Raspberry Pi 5 Model B Rev 1.0\0", "utf-8")
    host = Recorded(root=tmp_path / "root", environ={}, system="linux", recording=Recording("linux", {}))
    assert probe(host, store=Path("/models")).memory.bandwidth_bytes_per_s == 17.1e9
    (tmp_path / "devices.toml").write_text("[[family]]", "utf-8")
    monkeypatch.setattr("llmctl.paths.profiles_dir", lambda: tmp_path)
    found = probe(host, store=Path("/models"))
    assert found.memory.bandwidth_bytes_per_s is None
    assert any("devices.toml" in note.message for note in found.notes)


def test_a_pc_without_a_card_costs_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: a PC\nflags\t\t: lm avx2\n", "utf-8")
    monkeypatch.setattr(table, "load", lambda _: pytest.fail("read for nothing"))
    host = Recorded(root=tmp_path, environ={}, system="linux", recording=Recording("linux", {}))
    assert probe(host, store=Path("/models")).cpu.name == "a PC"
