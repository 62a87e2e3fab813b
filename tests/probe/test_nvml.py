"""The real pynvml in its child process, against a compiled stand-in for NVIDIA's library."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llmctl.host import Host
from llmctl.probe.gpu import nvidia, nvidia_kernel, nvml
from llmctl.probe.gpu.nvml import Card
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note
from tests.fakes.nvml.computer import GIB, MEMORY, SETTLED, UBUNTU, Computer

Computers = Callable[..., Computer]


def asked(host: Host, places: list[str] | None = None) -> Any:
    """What the child answers, before anything is made of it."""
    reply = host.ask("llmctl.probe.gpu.nvml", places, deadline_s=nvidia.DEADLINE_S)
    assert reply.data is not None, reply.why
    return reply.data


def test_one_card_with_everything(fake: Computers) -> None:
    cards, notes = nvidia.nvidia(fake("1"), MEMORY)
    assert notes == ()
    assert cards == (
        Accelerator(
            id="0000:0a:00.0",
            name="NVIDIA GeForce RTX 3090",
            vendor="NVIDIA",
            kind=AcceleratorKind.DISCRETE,
            memory_total_bytes=25_769_803_776,
            memory_free_bytes=24_000_000_000,
            bandwidth_bytes_per_s=936_096_000_000.0,
            bandwidth_basis="memory clock x bus width (NVML)",
            driver="550.90.07",
            compute_capability="8.6",
            api_version="CUDA 12.4",
            uuid="GPU-01111111-2222-3333-4444-555555555555",
            pcie="gen4 x16",
            power_limit_w=350.0,
            pci_id="10de:2204",
        ),
    )


def test_no_card_and_no_note(fake: Computers) -> None:
    assert nvidia.nvidia(fake("0"), MEMORY) == ((), ())


def test_shared_memory_is_the_machines(fake: Computers) -> None:
    (_, second), _ = nvidia.nvidia(fake("2"), MEMORY)
    assert (second.id, second.name, second.kind) == ("000f:01:00.0", "NVIDIA GB10", AcceleratorKind.UNIFIED)
    assert (second.memory_total_bytes, second.memory_free_bytes) == (128 * GIB, 100 * GIB)
    assert second.shared_bytes == 128 * GIB
    assert (second.bandwidth_bytes_per_s, second.pcie, second.power_limit_w) == (None, None, None)
    (_, unknown), _ = nvidia.nvidia(fake("2"), Memory(0, 0))
    assert (unknown.memory_total_bytes, unknown.memory_free_bytes, unknown.shared_bytes) == (None, None, None)


def test_functions_that_an_old_driver_lacks_leave_fields_unknown(fake: Computers) -> None:
    (card,), notes = nvidia.nvidia(fake("old"), MEMORY)
    assert notes == ()
    assert (card.memory_free_bytes, card.driver) == (24_000_000_000, "550.90.07")
    assert (card.bandwidth_bytes_per_s, card.pcie, card.power_limit_w, card.api_version) == (None, None, None, None)


LOG = "sudo dmesg | grep NVRM   (it may tell why)"


@pytest.mark.parametrize(
    ("behaviour", "message", "remedy"),
    [
        (
            "init",
            "the libraries are not of the version of the driver 550.90.07 that is loaded, as after an update",
            "sudo reboot   (or: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia)",
        ),
        ("module", "the driver is installed, but not loaded", "sudo modprobe nvidia"),
        ("permission", "the driver 550.90.07 does not work: Insufficient Permissions", LOG),
        ("unheard-of", "the driver 550.90.07 does not work: error 4242", LOG),
        ("crash", "the driver's library crashed (signal 11)", LOG),
    ],
)
def test_failures_are_notes_and_the_card_is_still_shown(
    fake: Computers, behaviour: str, message: str, remedy: str
) -> None:
    (card,), notes = nvidia.nvidia(fake(behaviour, SETTLED), MEMORY)
    assert notes == (Note(f"NVIDIA: {message}", remedy),)
    assert (card.id, card.name, card.driver) == ("0000:0a:00.0", "NVIDIA GPU (10de:2204)", "550.90.07")
    assert (card.memory_total_bytes, card.memory_free_bytes, card.pci_id) == (None, None, "10de:2204")


WSL = {"proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2\n"}


@pytest.mark.parametrize(
    ("files", "mend"),
    [
        ({".dockerenv": ""}, "docker restart NAME"),
        ({".singularity.d/x": ""}, None),
        (WSL, "wsl --shutdown   (in Windows; if that is not enough, a newer driver there)"),
    ],
)
def test_where_a_reboot_is_not_what_mends_it(fake: Computers, files: Mapping[str, str], mend: str | None) -> None:
    (note,) = nvidia.nvidia(fake("init", files), MEMORY)[1]
    assert note.remedy == mend


@pytest.mark.parametrize("behaviour", ["hang", "hang-after-first"])
def test_the_deadline_holds(fake: Computers, behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "DEADLINE_S", 0.7)
    begun = time.monotonic()
    (card,), (note,) = nvidia.nvidia(fake(behaviour, SETTLED), MEMORY)
    assert time.monotonic() - begun < 10  # the stand-in sleeps for 60
    assert note == Note("NVIDIA: the driver's library did not answer within 0.7 s", LOG)
    assert card.id == "0000:0a:00.0"


def test_a_card_that_is_lost_does_not_hide_the_other(fake: Computers) -> None:
    (card,), notes = nvidia.nvidia(fake("lost", SETTLED), MEMORY)
    assert card.name == "NVIDIA GB10"
    assert notes == (Note("NVIDIA: card 0: GPU is lost", LOG),)


def test_memory_that_is_not_told_is_not_shared_memory(fake: Computers) -> None:
    (card,), _ = nvidia.nvidia(fake("lost-memory"), MEMORY)
    assert card.kind is AcceleratorKind.DISCRETE
    assert (card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes) == (None, None, None)


def test_without_libcuda(fake: Computers) -> None:
    (card,), (note,) = nvidia.nvidia(fake("no-cuda", {"etc/os-release": UBUNTU}), MEMORY)
    assert card.api_version is None
    message = "NVIDIA: the driver's library libcuda.so.1, which every CUDA program needs, is not found"
    assert note == Note(message, "sudo apt install libnvidia-compute-550")
    (note,) = nvidia.nvidia(fake("no-cuda", {"etc/os-release": UBUNTU, **WSL}), MEMORY)[1]
    remedy = "export LD_LIBRARY_PATH=/usr/lib/wsl/lib   (where Windows's driver puts its libraries)"
    assert note == Note(message, remedy)


def test_what_no_driver_says_is_not_believed(fake: Computers) -> None:
    cards, notes = nvidia.nvidia(fake("absurd"), MEMORY)
    assert cards == ()  # MIG without slices
    assert len(notes) == nvml.MOST_FAILURES + 1
    texts = [text for note in notes for text in (note.message, note.remedy or "")]
    assert all(text.isprintable() and len(text) < 400 for text in texts)
    (card,) = asked(fake("absurd"))["cards"]
    assert card["name"].startswith("[31mRTX AAA")
    assert len(card["name"]) <= nvml.MOST_TEXT
    known = {name for name, value in card.items() if value not in (None, [])}
    assert known == {"name", "mig", "shared"}


def test_slices_stand_for_the_card(fake: Computers) -> None:
    cards, notes = nvidia.nvidia(fake("mig"), MEMORY)
    assert notes == ()
    assert [card.name.removeprefix("NVIDIA A100-SXM4-80GB MIG ") for card in cards] == ["3g.40gb", "2g.20gb", "2g.20gb"]
    first, second, third = cards
    assert first.id == first.uuid == "MIG-01111111-2222-3333-4444-555555555555"
    assert {card.parent for card in cards} == {"0000:0a:00.0"}
    assert (first.memory_total_bytes, first.memory_free_bytes) == (40192 << 20, 40155 << 20)
    assert (second.memory_total_bytes, third.memory_total_bytes) == (19968 << 20, 19968 << 20)
    # a 3g.40gb has 4 of 8 memory slices, a 2g.20gb has 2 (MIG User Guide, "A100 MIG Profiles")
    assert first.bandwidth_bytes_per_s == pytest.approx(2039e9 / 2, rel=0.001)
    assert second.bandwidth_bytes_per_s == pytest.approx(2039e9 / 4, rel=0.001)
    assert first.bandwidth_basis == "4/8 of memory clock x bus width (NVML)"
    assert (first.power_limit_w, first.compute_capability, first.pcie) == (None, "8.0", "gen4 x16")


def test_a_slice_that_was_chosen_is_alone(fake: Computers) -> None:
    uuid = "MIG-11111111-2222-3333-4444-555555555555"
    (card,), notes = nvidia.nvidia(fake("mig", CUDA_VISIBLE_DEVICES=uuid), MEMORY)
    assert (card.uuid, notes) == (uuid, ())


def test_a_share_of_what_is_not_known_is_not_known(fake: Computers) -> None:
    cards, _ = nvidia.nvidia(fake("mig-secret"), MEMORY)
    assert [card.memory_total_bytes for card in cards] == [40192 << 20, 19968 << 20, 19968 << 20]
    assert [(card.bandwidth_bytes_per_s, card.bandwidth_basis) for card in cards] == [(None, None)] * 3


def test_mig_without_slices(fake: Computers) -> None:
    cards, (note,) = nvidia.nvidia(fake("mig-empty", SETTLED), MEMORY)
    assert cards == ()
    assert note == Note(
        "NVIDIA: MIG is turned on for NVIDIA A100-SXM4-80GB, which has no slices",
        "sudo nvidia-smi -i 0000:0a:00.0 -mig 0   (turns it off; what slices there can be: sudo nvidia-smi mig "
        "-i 0000:0a:00.0 -lgip)",
    )


def test_a_library_that_the_loader_does_not_find(computer: Computers, library: Callable[..., Path]) -> None:
    """As in WSL with ldconfig turned off. pynvml asks the loader for a name, so the file must be loaded before."""
    place = str(library() / "libnvidia-ml.so.1")
    told = asked(computer(FAKE_NVML="1"), ["/nowhere/x.so", place])
    assert told["cards"][0]["name"] == "NVIDIA GeForce RTX 3090"


@pytest.mark.skipif(nvidia_kernel.installed(Host()), reason="the library is installed on this machine")
@pytest.mark.parametrize(
    ("files", "mend"),
    [
        ({"etc/os-release": UBUNTU}, "sudo apt install libnvidia-compute-550"),
        ({"etc/os-release": 'ID=debian\nVERSION_ID="13"\n'}, "sudo apt install libnvidia-ml1 libcuda1"),
        (
            {"etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'},
            "https://www.nvidia.com/drivers   (or the system's package of the driver's libraries, of the same version)",
        ),
        ({"etc/os-release": "ID=endeavouros\nID_LIKE=arch\n"}, "sudo pacman -S nvidia-utils"),
        (
            {},
            "https://www.nvidia.com/drivers   (or the system's package of the driver's libraries, of the same version)",
        ),
        (
            {".dockerenv": "", "etc/os-release": UBUNTU},
            "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE",
        ),
        ({"run/.containerenv": ""}, "podman run --device nvidia.com/gpu=all IMAGE"),
        ({"run/systemd/container": "systemd-nspawn"}, None),
    ],
)
def test_without_a_library(computer: Computers, files: Mapping[str, str], mend: str | None) -> None:
    cards, (note,) = nvidia.nvidia(computer(files), MEMORY)
    assert cards == ()
    message = "NVIDIA: the driver 550.90.07 is loaded, but its library libnvidia-ml.so.1 is not found"
    assert note == Note(message, mend)


# What nvidia-smi shows as the highest memory clock (public outputs of nvidia-smi -q and deviceQuery), the bus, and the
# bandwidth in GB/s that NVIDIA states.
@pytest.mark.parametrize(
    ("name", "clock_mhz", "bus_bits", "stated"),
    [
        ("GeForce GTX 1070, GDDR5", 4004, 256, 256),
        ("GeForce GTX 1080, GDDR5X", 5005, 256, 320),
        ("GeForce GTX 1080 Ti, GDDR5X", 5505, 352, 484),
        ("Tesla T4, GDDR6", 5001, 256, 320),
        ("GeForce RTX 2080 Super, GDDR6", 7751, 256, 496),
        ("GeForce RTX 3060 12GB, GDDR6", 7501, 192, 360),
        ("GeForce RTX 3090, GDDR6X", 9751, 384, 936),
        ("GeForce RTX 4090, GDDR6X", 10501, 384, 1008),
        ("GeForce RTX 5060 Ti, GDDR7", 14001, 128, 448),
        ("GeForce RTX 5090, GDDR7", 14001, 512, 1792),
        ("Tesla V100, HBM2", 877, 4096, 900),
        ("A100-SXM4-40GB, HBM2", 1215, 5120, 1555),
        ("A100-SXM4-80GB, HBM2e", 1593, 5120, 2039),
        ("H100 80GB HBM3", 2619, 5120, 3350),
        ("H200, HBM3e", 3201, 6144, 4800),
    ],
)
def test_bandwidth_is_what_nvidia_states(name: str, clock_mhz: int, bus_bits: int, stated: float) -> None:
    card = Card(name, memory_clock_mhz=clock_mhz, bus_width_bits=bus_bits)
    bandwidth, basis = nvidia.bandwidth_of(card, None)
    assert bandwidth == pytest.approx(stated * 1e9, rel=0.025)
    assert basis == "memory clock x bus width (NVML)"
