"""Which NVIDIA GPUs count, and those that only the kernel knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.gpu import nvidia, nvidia_kernel
from llmctl.probe.gpu.nvidia import chosen
from llmctl.probe.gpu.nvml import Card, Slice
from llmctl.types.machine import AcceleratorKind, Note
from tests.fakes.nvml.computer import MEMORY, MODULE, SETTLED, UBUNTU, Computer, Untouched, drm_card, pci_line, put

Computers = Callable[..., Computer]


def test_unlike_cards_and_a_choice_by_number_are_ambiguous(fake: Computers) -> None:
    (card,), (note,) = nvidia.nvidia(fake("2", CUDA_VISIBLE_DEVICES="1"), MEMORY)
    assert card.name == "NVIDIA GB10"
    assert note == Note(
        "NVIDIA: which card CUDA_VISIBLE_DEVICES means is not sure: CUDA counts unlike cards from the fastest",
        "export CUDA_DEVICE_ORDER=PCI_BUS_ID",
    )
    sure = fake("2", CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert nvidia.nvidia(sure, MEMORY)[1] == ()
    assert nvidia.nvidia(fake("2", CUDA_VISIBLE_DEVICES="GPU-1"), MEMORY)[1] == ()


CARDS = (Card("card", "GPU-aaa1"), Card("card", "GPU-aab2"), Card("card", "GPU-bbb3"))


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
        ("0,2,-1,1", [0, 2]),
        ("1,1", [1]),
        ("GPU-bbb", [2]),
        ("GPU-aa", []),
        ("GPU-aab2,GPU-aaa", [1, 0]),
        ("99999999999999999999", []),
        ("²", []),
        ("MIG-aaa1", []),
    ],
)
def test_cuda_visible_devices(choice: str | None, shown: list[int]) -> None:
    assert chosen(CARDS, choice) == tuple((CARDS[index], None) for index in shown)


A, B = Slice("a", "MIG-a", None, None, (1, 0)), Slice("b", None, None, None, (2, 0))
CUT = Card("cut", "GPU-cut", mig=True, slices=(A, B))
WHOLE = Card("whole", "GPU-whole")


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (None, [(CUT, A), (CUT, B), (WHOLE, None)]),
        ("0", [(CUT, A), (CUT, B)]),
        ("1,0", [(WHOLE, None), (CUT, A), (CUT, B)]),
        ("MIG-a", [(CUT, A)]),
        ("MIG-GPU-cut/2/0", [(CUT, B)]),
        ("MIG-GPU-cut/1/0,1", [(CUT, A), (WHOLE, None)]),
        ("MIG-GPU-cut/3/0", []),
        ("MIG-GPU-whole/1/0", []),
        ("MIG-a,MIG-a", [(CUT, A)]),
        ("MIG-a,0", [(CUT, A)]),
        ("MIG-", []),
    ],
)
def test_slices_are_chosen(choice: str | None, shown: list[tuple[Card, Slice | None]]) -> None:
    assert chosen((CUT, WHOLE), choice) == tuple(shown)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_no_child_where_no_driver_shows(tmp_path: Path, system: str) -> None:
    put(tmp_path, {"Windows/System32/kernel32.dll": "", "proc/bus/pci/devices": pci_line("0000", "80860d57", [])})
    assert nvidia.nvidia(Untouched(root=tmp_path, environ={}, system=system), MEMORY) == ((), ())


BY_NUMBER = {"CUDA_VISIBLE_DEVICES": "1"}


@pytest.mark.parametrize("files", [{"Windows/System32/nvml.dll": ""}, {"a/file": "of another drive"}])
def test_windows(tmp_path: Path, library: Callable[..., Path], files: Mapping[str, str]) -> None:
    """Where the signs are of another drive, the library is asked for; that there is none is then no news."""
    put(tmp_path, files)
    environ = {"LD_LIBRARY_PATH": str(library()), "FAKE_NVML": "1"}
    host = Computer(root=tmp_path, environ=environ, system="win32")
    assert [card.id for card in nvidia.nvidia(host, MEMORY)[0]] == ["0000:0a:00.0"]
    newest = "https://www.nvidia.com/drivers   (install the newest, then restart Windows)"
    for behaviour, message in (
        ("init", "NVIDIA: the driver does not work: RM has detected an NVML/RM version mismatch"),
        ("crash", "NVIDIA: the driver's library crashed (signal 11)"),
    ):
        notes = nvidia.nvidia(replace(host, environ={**environ, "FAKE_NVML": behaviour}), MEMORY)[1]
        assert notes == ((Note(message, newest),) if "Windows/System32/nvml.dll" in files else ())
    (note,) = nvidia.nvidia(replace(host, environ={**environ, "FAKE_NVML": "2", **BY_NUMBER}), MEMORY)[1]
    assert note.remedy == '$env:CUDA_DEVICE_ORDER = "PCI_BUS_ID"'


@pytest.mark.parametrize(
    ("mark", "command"),
    [
        ({".dockerenv": ""}, "docker run --gpus all IMAGE"),
        ({"run/.containerenv": ""}, "podman run --device nvidia.com/gpu=all IMAGE"),
        (
            {"var/run/secrets/kubernetes.io/serviceaccount/token": ""},
            "resources: {limits: {nvidia.com/gpu: 1}}   (in the container's part of the pod)",
        ),
        ({".singularity.d/x": ""}, "apptainer exec --nv IMAGE COMMAND"),
        ({"run/systemd/container": "systemd-nspawn"}, None),
    ],
)
def test_a_container_without_its_gpu(tmp_path: Path, mark: Mapping[str, str], command: str | None) -> None:
    put(tmp_path, {"proc/driver/nvidia/version": MODULE, **SETTLED, **mark})
    (card,), (note,) = nvidia.nvidia(Untouched(root=tmp_path, environ={}, system="linux"), MEMORY)
    assert note == Note(
        "NVIDIA: the driver is loaded, but there is no /dev/nvidiactl: this container was started without its GPU",
        command,
    )
    assert card.driver == "550.90.07"


NEW_CARD = pci_line("0100", "10de2b85", [64 << 20, 32 << 30, 32 << 20])
SOUND = pci_line("0101", "10de22e8", [16 << 10])
SWITCH = pci_line("0700", "10de22a3", [32 << 20])
IDS = "10de  NVIDIA Corporation\n\t2204  GA102 [GeForce RTX 3090]\n\t2b85  GB202 [GeForce RTX 5090]\n"


@pytest.mark.parametrize(
    ("files", "card", "message", "remedy"),
    [
        (
            {**drm_card(1, "0000:0a:00.0", "10de:2204", "nouveau"), "etc/os-release": UBUNTU},
            ("0000:0a:00.0", "NVIDIA GPU (10de:2204)", "nouveau"),
            "GPU (10de:2204) at 0000:0a:00.0 is run by nouveau, which has no CUDA",
            "sudo ubuntu-drivers install   then: sudo reboot",
        ),
        (  # whose system is not the machine's
            {**drm_card(1, "0000:0a:00.0", "10de:2204", "nouveau"), "etc/os-release": UBUNTU, ".dockerenv": ""},
            ("0000:0a:00.0", "NVIDIA GPU (10de:2204)", "nouveau"),
            "GPU (10de:2204) at 0000:0a:00.0 is run by nouveau, which has no CUDA",
            "https://www.nvidia.com/drivers   (on the machine that this container runs on)",
        ),
        (
            {"proc/bus/pci/devices": NEW_CARD + SOUND + SWITCH, "etc/os-release": "ID=fedora\n"},
            ("01:00.0", "NVIDIA GPU (10de:2b85)", None),
            "GPU (10de:2b85) at 01:00.0 has no driver",
            "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda   then: sudo reboot",
        ),
        (
            {"proc/bus/pci/devices": NEW_CARD, "usr/share/misc/pci.ids": IDS},
            ("01:00.0", "NVIDIA GeForce RTX 5090", None),
            "GeForce RTX 5090 at 01:00.0 has no driver",
            "https://www.nvidia.com/drivers   then: sudo reboot",
        ),
        (
            {"proc/bus/pci/devices": NEW_CARD, "usr/lib64/libnvidia-ml.so.1": ""},
            ("01:00.0", "NVIDIA GPU (10de:2b85)", None),
            "the driver is installed, but not loaded for GPU (10de:2b85) at 01:00.0",
            "sudo modprobe nvidia   (Secure Boot may refuse it: mokutil --sb-state)",
        ),
        (
            {"proc/bus/pci/devices": pci_line("0a00", "10de2204", [16 << 20, 256 << 20], "vfio-pci")},
            ("0a:00.0", "NVIDIA GPU (10de:2204)", "vfio-pci"),
            "GPU (10de:2204) at 0a:00.0 is kept for a virtual machine (vfio-pci)",
            None,
        ),
        (  # both lists have it
            {
                **drm_card(0, "000f:0a:00.0", "10de:2204", "nouveau"),
                "proc/bus/pci/devices": pci_line("0a00", "10de2204", [16 << 20, 256 << 20], "nouveau"),
            },
            ("000f:0a:00.0", "NVIDIA GPU (10de:2204)", "nouveau"),
            "GPU (10de:2204) at 000f:0a:00.0 is run by nouveau, which has no CUDA",
            "https://www.nvidia.com/drivers   then: sudo reboot",
        ),
    ],
)
def test_cards_that_only_the_kernel_knows(
    tmp_path: Path, files: Mapping[str, str], card: tuple[str, str, str | None], message: str, remedy: str | None
) -> None:
    put(tmp_path, files)
    host = Untouched(root=tmp_path, environ={}, system="linux")
    (found,), notes = nvidia.nvidia(host, MEMORY)
    assert (found.id, found.name, found.driver) == card
    assert (found.memory_total_bytes, found.memory_free_bytes, found.kind) == (None, None, AcceleratorKind.DISCRETE)
    assert notes == (Note(f"NVIDIA: {message}", remedy),)
    hidden = replace(host, environ={"CUDA_VISIBLE_DEVICES": ""})
    assert nvidia.nvidia(hidden, MEMORY) == ((), ())


def test_the_kernels_cards_beside_those_that_nvml_lists(fake: Computers) -> None:
    other = drm_card(1, "0000:0b:00.0", "10de:1b06", "vfio-pci")
    withheld = drm_card(2, "0000:0c:00.0", "10de:1b06", "nvidia")  # a batch system gave it to somebody else
    cards, (note,) = nvidia.nvidia(fake("1", {**SETTLED, **other, **withheld}), MEMORY)
    assert [card.id for card in cards] == ["0000:0a:00.0", "0000:0b:00.0"]
    assert "kept for a virtual machine" in note.message
    elsewhere = drm_card(3, "0001:0a:00.0", "10de:1b06", "nouveau")  # the same place in another PCI domain
    assert "0001:0a:00.0" in [card.id for card in nvidia.nvidia(fake("1", elsewhere), MEMORY)[0]]
    contained = nvidia.nvidia(fake("1", {".dockerenv": ""}), MEMORY)
    assert ([card.id for card in contained[0]], contained[1]) == (["0000:0a:00.0"], ())


def test_a_card_that_the_driver_does_not_run(fake: Computers) -> None:
    (card,), (note,) = nvidia.nvidia(fake("0", SETTLED), MEMORY)
    assert (card.id, card.driver) == ("0000:0a:00.0", "550.90.07")
    assert note == Note(
        "NVIDIA: the driver does not run GPU (10de:2204) at 0000:0a:00.0", "sudo dmesg | grep NVRM   (it may tell why)"
    )


@pytest.mark.parametrize("choice", ["", "-1", "GPU-nothing"])
def test_what_cuda_visible_devices_hides_stays_hidden(fake: Computers, choice: str) -> None:
    assert nvidia.nvidia(fake("1", SETTLED, CUDA_VISIBLE_DEVICES=choice), MEMORY) == ((), ())


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (MODULE, "550.90.07"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (dvs-builder)\n",
            "580.95.05",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  610.43  Wed Jul  1\n", "610.43"),
        ("GCC version: gcc 13.2.0\n", None),
        ("", None),
    ],
)
def test_driver_version(tmp_path: Path, text: str, version: str | None) -> None:
    put(tmp_path, {"proc/driver/nvidia/version": text})
    assert nvidia_kernel.version(Host(root=tmp_path)) == version
