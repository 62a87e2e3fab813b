"""NVIDIA's boards, with NVML and without; and answers of its child that nobody expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from llmctl.host import Host
from llmctl.probe.gpu import nvidia, tegra
from llmctl.probe.recorded.recording import Recorded, RecordedReply, Recording
from llmctl.types.machine import AcceleratorKind, Memory, Note
from tests.fakes.nvml.computer import DRIVER, GIB, MEMORY, Computer, Untouched, put
from tests.properties import examples

Computers = Callable[..., Computer]

L4T = "# R36 (release), REVISION: 4.3, GCID: 00000000, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 2025\n"
REFERENCE = "Engineering Reference Developer Kit"


@pytest.mark.parametrize(
    ("model", "chip", "name", "capability"),
    [
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "tegra234",
            "Jetson Orin Nano Super",
            "8.7",
        ),
        ("NVIDIA Jetson Orin Nano Developer Kit", "tegra234", "Jetson Orin Nano", "8.7"),
        (f"NVIDIA Jetson Orin NX {REFERENCE} Super", "tegra234", "Jetson Orin NX", "8.7"),
        ("NVIDIA Orin Nano Developer Kit", "tegra234", "Jetson Orin Nano", "8.7"),
        (f"NVIDIA Jetson Orin NX {REFERENCE}", "tegra234", "Jetson Orin NX", "8.7"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "tegra234", "Jetson AGX Orin", "8.7"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "tegra264", "Jetson AGX Thor", "11.0"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "tegra194", "Jetson Xavier NX", "7.2"),
        ("Jetson-AGX", "tegra194", "Jetson AGX", "7.2"),
        ("NVIDIA Jetson Nano Developer Kit", "tegra210", "Jetson Nano", "5.3"),
        ("somebody's carrier board", "tegra234", "NVIDIA Orin", "8.7"),
        ("", "tegra234", "NVIDIA Orin", "8.7"),
    ],
)
def test_boards(tmp_path: Path, model: str, chip: str, name: str, capability: str) -> None:
    put(
        tmp_path,
        {
            "proc/device-tree/model": model + "\0",
            "proc/device-tree/compatible": f"nvidia,p3768-0000+p3767-0005\0nvidia,{chip}\0",
            "etc/nv_tegra_release": L4T,
        },
    )
    host = Untouched(root=tmp_path, environ={}, system="linux")
    (card,), notes = nvidia.nvidia(host, Memory(8 * GIB, 6 * GIB))
    assert notes == ()
    assert (card.name, card.compute_capability, card.driver) == (name, capability, "L4T 36.4.3")
    assert (card.kind, card.id, card.vendor) == (AcceleratorKind.UNIFIED, "0000:00:00.0", "NVIDIA")
    assert (card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes) == (8 * GIB, 6 * GIB, 8 * GIB)
    assert nvidia.nvidia(replace(host, environ={"CUDA_VISIBLE_DEVICES": "-1"}), MEMORY) == ((), ())


ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
    "etc/nv_tegra_release": L4T,
}


def test_nvml_on_a_board_adds_little(fake: Computers) -> None:
    """On Orin it gives no address and no memory (or zero); the board's name says more than "Orin (nvgpu)"."""
    (card,), notes = nvidia.nvidia(fake("zero", ORIN), MEMORY)
    assert notes == ()
    assert (card.name, card.compute_capability) == ("Jetson AGX Orin", "8.7")
    assert (card.driver, card.api_version) == ("550.90.07", "CUDA 12.4")
    assert (card.memory_total_bytes, card.kind, card.bandwidth_bytes_per_s) == (
        128 * GIB,
        AcceleratorKind.UNIFIED,
        None,
    )


def test_a_board_does_without_nvml(fake: Computers) -> None:
    (card,), notes = nvidia.nvidia(fake("init", ORIN), MEMORY)
    assert (card.name, notes) == ("Jetson AGX Orin", ())


def test_a_container_on_a_board(tmp_path: Path) -> None:
    """It sees the release only if NVIDIA's runtime mounted it, and the chip's name never."""
    put(tmp_path, {".dockerenv": "", "etc/nv_tegra_release": L4T})
    host = Untouched(root=tmp_path, environ={}, system="linux")
    (card,), (note,) = nvidia.nvidia(host, MEMORY)
    assert (card.name, card.compute_capability) == ("NVIDIA Jetson", None)
    assert note == Note("NVIDIA: this container was started without its GPU", "docker run --runtime nvidia IMAGE")
    put(tmp_path, {"dev/nvmap": ""})
    assert nvidia.nvidia(host, MEMORY)[1] == ()


def test_no_board(tmp_path: Path) -> None:
    put(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5\0", "proc/device-tree/compatible": "brcm,bcm2712\0"})
    assert tegra.board(Host(root=tmp_path)) is None


WORDS = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["550.90", "MIG-a", "GPU-a", "0000:01:00.0"]))
FIGURES = st.one_of(st.none(), st.integers(0, 1 << 63), st.integers(0, 100))
NUMBERS = st.lists(st.integers(0, 20), max_size=3)
MEMORY_TOLD = {"memory_total_bytes": FIGURES, "memory_free_bytes": FIGURES}
SLICES = st.fixed_dictionaries({"name": WORDS, "uuid": WORDS, **MEMORY_TOLD, "instance": NUMBERS})
CARD = st.fixed_dictionaries(
    {
        **dict.fromkeys(("name", "uuid", "address", "pci_id", "compute_capability"), WORDS),
        **MEMORY_TOLD,
        **dict.fromkeys(("shared", "mig"), st.booleans()),
        **dict.fromkeys(("memory_clock_mhz", "bus_width_bits", "power_limit_mw"), FIGURES),
        "pcie": NUMBERS,
        "slices": st.lists(SLICES, max_size=3),
    }
)
ANSWER = st.one_of(
    st.none(),
    st.just({"cards": 1}),
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("driver", "cuda", "error"), WORDS),
            "code": FIGURES,
            "no_cuda": st.booleans(),
            "cards": st.lists(CARD, max_size=3),
            "failures": st.lists(st.text(max_size=9), max_size=2),
        }
    ),
)


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWER, choice=WORDS, board=st.booleans())
def test_no_answer_is_too_strange(tmp_path: Path, answer: object, choice: str | None, board: bool) -> None:
    folder = tmp_path / str(board)
    put(folder, {**DRIVER, **(ORIN if board else {})})
    environ = {} if choice is None else {"CUDA_VISIBLE_DEVICES": choice}
    told = Recording("linux", environ, asked=(RecordedReply("llmctl.probe.gpu.nvml", answer, "did not answer"),))
    cards, notes = nvidia.nvidia(Recorded(root=folder, environ=environ, system="linux", recording=told), MEMORY)
    assert all(note.message.startswith("NVIDIA: ") for note in notes)
    for card in cards:
        assert card.name
        assert card.kind is not AcceleratorKind.UNIFIED or card.memory_free_bytes == MEMORY.available_bytes
        assert card.bandwidth_bytes_per_s is None or card.bandwidth_bytes_per_s > 0
