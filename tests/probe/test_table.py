"""The device table: its figures agree with each other, and names as drivers give them find their line or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import ConfigError
from llmctl.paths import profiles_dir
from llmctl.probe.described import table
from llmctl.probe.described.table import Device
from llmctl.types.machine import AcceleratorKind

DEVICES = table.load(profiles_dir())
GIB = 1 << 30


def found(name: str | None = None, **more: Any) -> tuple[str, float | None] | None:
    device = table.find(DEVICES, name=name, **more)
    if device is None:
        return None
    return device.name, device.bandwidth_bytes_per_s and device.bandwidth_bytes_per_s / 1e9


def one(name: str) -> Device:
    device = table.find(DEVICES, name=name)
    assert device is not None
    return device


def test_bandwidth_is_width_times_rate() -> None:
    wrong = []
    for device in DEVICES:
        told, width, rate = device.bandwidth_bytes_per_s, device.bus_width_bits, device.pin_bits_per_s
        if width is None or rate is None:  # the machine's memory's, or one that the vendor does not explain
            integrated = device.kind is AcceleratorKind.INTEGRATED
            fine = told is None if integrated else told is not None and device.checked == "tables"
        else:
            fine = told == pytest.approx(width * rate / 8, rel=0.015)
        wrong += [] if fine else [f"{device.name}: {table.described(device)}"]
    assert wrong == []


def test_every_line_is_found_by_its_own_name() -> None:
    for device in DEVICES:
        for size in device.memory_bytes or (None,):
            for cores in device.gpu_cores or (None,):
                name = f"{device.name} ({cores}-core GPU)" if cores else device.name
                same = table.matching(DEVICES, name=name, memory_total_bytes=size)
                assert {other.name for other in same} == {device.name}
                assert device.pci_ids in [other.pci_ids for other in same]


def test_what_a_line_must_tell() -> None:
    assert len(DEVICES) >= 150
    for device in DEVICES:
        assert device.memory_bytes or device.kind is not AcceleratorKind.DISCRETE
        assert device.vendor != "NVIDIA" or device.compute_capability
        assert device.vendor != "AMD" or device.architecture
        assert len(device.source) > 20


@pytest.mark.parametrize(
    ("name", "tflops"),  # as the vendors state them, dense, sums in f32
    [
        ("GeForce GTX 1080", 8.9),
        ("GeForce RTX 2080 Ti", 53.8),
        ("GeForce RTX 3090", 71.0),
        ("GeForce RTX 4090", 165.2),
        ("GeForce RTX 5090", 209.5),
        ("Quadro RTX 8000", 130.5),
        ("Tesla T4", 65),
        ("RTX A6000", 154.8),
        ("RTX 6000 Ada Generation", 364.2),
        ("RTX PRO 6000 Blackwell Workstation Edition", 503.8),
        ("A100 SXM4", 312),
        ("Radeon RX 5700 XT", 19.5),
        ("Radeon RX 6800 XT", 41.5),
        ("Radeon RX 7900 XTX", 122.8),
        ("Radeon RX 9060 XT", 103),
        ("Radeon RX 9070", 145),
        ("Radeon RX 9070 XT", 195),
        ("Radeon AI PRO R9700", 191),
        ("Instinct MI300X", 1307.4),
        ("Arc A770", 137.6),
    ],
)
def test_compute(name: str, tflops: float) -> None:
    assert one(name).flop_per_s == pytest.approx(tflops * 1e12, rel=0.02)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # NVML, CUDA
        ("NVIDIA GeForce GTX 1060 6GB", ("GeForce GTX 1060", 192)),
        ("NVIDIA GeForce GTX 1660 Ti", ("GeForce GTX 1660 Ti", 288)),
        ("NVIDIA GeForce RTX 2070 SUPER", ("GeForce RTX 2070 SUPER", 448)),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", ("GeForce RTX 2070 with Max-Q Design", 384)),
        ("NVIDIA GeForce RTX 3080", ("GeForce RTX 3080", 760)),
        ("NVIDIA GeForce RTX 3080 Ti", ("GeForce RTX 3080 Ti", 912)),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", ("GeForce RTX 3060 Laptop GPU", 336)),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", ("GeForce RTX 3050 Laptop GPU", 168)),
        ("NVIDIA GeForce RTX 4090", ("GeForce RTX 4090", 1008)),
        ("NVIDIA GeForce RTX 4090 D", ("GeForce RTX 4090 D", 1008)),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", ("GeForce RTX 4090 Laptop GPU", 576)),
        ("NVIDIA GeForce RTX 5070 Ti", ("GeForce RTX 5070 Ti", 896)),
        ("Tesla T4", ("Tesla T4", 320)),
        ("Tesla P40", ("Tesla P40", 346)),
        ("Tesla V100-SXM2-32GB", ("Tesla V100 SXM2", 900)),
        ("Quadro RTX 4000", ("Quadro RTX 4000", 416)),
        ("NVIDIA RTX 4000 Ada Generation", ("RTX 4000 Ada Generation", 360)),
        ("NVIDIA RTX A2000 12GB", ("RTX A2000", 288)),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", ("RTX PRO 6000 Blackwell Workstation Edition", 1792)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", ("RTX PRO 6000 Blackwell Server Edition", 1597)),
        ("NVIDIA A10G", ("A10G", 600)),
        ("NVIDIA A100-SXM4-40GB", ("A100 SXM4", 1555)),
        ("NVIDIA A100-SXM4-80GB", ("A100 SXM4", 2039)),
        ("NVIDIA A100 80GB PCIe", ("A100 PCIe", 1935)),
        ("NVIDIA H100 80GB HBM3", ("H100 SXM5", 3350)),
        ("NVIDIA H100 PCIe", ("H100 PCIe", 2039)),
        ("NVIDIA H200", ("H200", 4800)),
        ("NVIDIA L4", ("L4", 300)),
        ("NVIDIA L40S", ("L40S", 864)),
        ("NVIDIA GB10", ("GB10", 273)),
        ("NVIDIA Thor", ("Jetson AGX Thor", 273)),
        # boards
        ("NVIDIA Jetson AGX Orin Developer Kit", ("Jetson AGX Orin", 204.8)),
        ("NVIDIA Jetson Orin Nano Developer Kit", ("Jetson Orin Nano", 68)),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            ("Jetson Orin Nano Super", 102),
        ),
        ("Raspberry Pi 5 Model B Rev 1.0", ("Raspberry Pi 5", 17.1)),
        ("Raspberry Pi 4 Model B Rev 1.5", ("Raspberry Pi 4", 12.8)),
        ("Radxa ROCK 5B", ("RK3588 with LPDDR4X-4224", 33.8)),
        # Vulkan, with the driver's code name
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", ("Radeon RX 7900 XTX", 960)),
        ("Radeon RX 580 Series", ("Radeon RX 580", 256)),
        ("AMD Radeon RX 6600 XT (RADV NAVI23)", ("Radeon RX 6600 XT", 256)),
        ("AMD Radeon 780M Graphics (RADV PHOENIX)", ("Radeon 780M", None)),
        ("AMD Radeon Graphics (RADV PHOENIX)", ("Radeon 780M or Radeon 760M", None)),
        ("AMD Radeon 8060S Graphics (RADV GFX1151)", ("Radeon 8060S", 256)),
        ("Radeon 8060S Graphics (RADV STRIX_HALO)", ("Radeon 8060S", 256)),
        ("Intel(R) Arc(tm) B580 Graphics (BMG G21)", ("Arc B580", 456)),
        ("Intel(R) Iris(R) Xe Graphics (TGL GT2)", ("Iris Xe Graphics", None)),
        ("Microsoft Direct3D12 (NVIDIA GeForce RTX 3070)", ("GeForce RTX 3070", 448)),
        (
            "NVIDIA Tegra Orin (nvgpu)",
            ("Jetson Orin Nano or Jetson Orin Nano Super or Jetson Orin NX or Jetson AGX Orin", None),
        ),
        # pci.ids, libdrm, sysfs
        ("AD102 [GeForce RTX 4090]", ("GeForce RTX 4090", 1008)),
        ("Battlemage G21 [Arc Pro B60]", ("Arc Pro B60", 456)),
        ("AMD Instinct MI210", ("Instinct MI210", 1638)),
        ("AMD Radeon Pro W7900 Dual Slot", ("Radeon PRO W7900", 864)),
        ("AMD Radeon AI PRO R9700", ("Radeon AI PRO R9700", 640)),
        # Apple
        ("Apple M1", ("Apple M1", 68.25)),
        ("Apple M3 Max (40-core GPU)", ("Apple M3 Max", 400)),
        ("Apple M3 Max (30-core GPU)", ("Apple M3 Max", 300)),
        ("Apple M3 Max", ("Apple M3 Max", 300)),
        ("Apple M2 (Virtual)", ("Apple M2", 100)),
        # processors with memory of their own kind
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", ("Radeon 8060S", 256)),
        ("Intel(R) Core(TM) Ultra 7 258V", ("Arc 140V", 136.5)),
        ("Snapdragon(R) X Elite - X1E78100 - Qualcomm(R) Oryon(TM) CPU", ("Snapdragon X Elite", 135)),
        # what people write
        ("RTX 3060 12GB", ("GeForce RTX 3060", 360)),
        ("rtx3090", ("GeForce RTX 3090", 936)),
        ("4090", None),
        ("A770 16GB", None),
        ("arc a770 16 GB", ("Arc A770", 560)),
        ("7900 XTX", None),
        ("Radeon RX 7900XTX", ("Radeon RX 7900 XTX", 960)),
        # not in the table, or not the whole card
        ("NVIDIA GeForce RTX 4090 Ti", None),
        ("NVIDIA GeForce RTX 3060 Mobile", ("GeForce RTX 3060 Laptop GPU", 336)),
        ("NVIDIA GeForce RTX 2060 Laptop GPU", None),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", None),
        ("GB203M / GN22 [GeForce RTX 5090 Max-Q / Mobile]", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA A10-24Q", None),
        ("GRID T4-16Q", None),
        ("NVIDIA RTX 6000", None),
        ("NVIDIA T400 4GB", None),
        ("NVIDIA GeForce 610M", None),  # AMD has a Radeon 610M
        ("AMD Radeon Graphics", None),
        ("AMD Radeon(TM) Graphics", None),
        ("AMD Radeon RX 7900 XTX Extreme Special", None),
        ("Intel(R) UHD Graphics", None),
        ("Apple M4 Ultra", None),  # there is none
        ("Apple Paravirtual device", None),
        ("llvmpipe (LLVM 15.0.7, 256 bits)", None),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", None),  # its memory may be any
        ("13th Gen Intel(R) Core(TM) i7-13700H", None),
        ("AMD EPYC 9654 96-Core Processor", None),  # which modules it has, its name does not tell
        ("Cortex-A76", None),
        ("NVIDIA Jetson", None),
        ("NVIDIA", None),
        ("GPU", None),
        ("", None),
    ],
)
def test_names_as_they_come(name: str, expected: tuple[str, float | None] | None) -> None:
    assert found(name) == expected


def test_a_pci_id_of_several_products_tells_what_they_have_in_common() -> None:
    """744c is the RX 7900 XTX, XT, GRE and M; the memory tells which, or that it is one of two."""
    assert found(pci_id="1002:744c", memory_total_bytes=25_753_026_560) == ("Radeon RX 7900 XTX", 960)
    assert found(pci_id="1002:744C", memory_total_bytes=21_458_059_264) == ("Radeon RX 7900 XT", 800)
    both = table.find(DEVICES, pci_id="1002:744c", memory_total_bytes=16 * GIB)
    assert both is not None
    assert (both.name, both.bandwidth_bytes_per_s, both.architecture) == (
        "Radeon RX 7900 GRE or Radeon RX 7900M",
        576e9,
        "gfx1100",
    )
    any_of_them = table.find(DEVICES, pci_id="1002:744c")
    assert any_of_them is not None
    assert (any_of_them.bandwidth_bytes_per_s, any_of_them.memory_bytes, any_of_them.architecture) == (
        None,
        (),
        "gfx1100",
    )
    assert found(pci_id="1002:ffff") is None


def test_a_known_name_is_worth_more_than_a_pci_id() -> None:
    assert found("AMD Radeon RX 7900 GRE", pci_id="1002:744c") == ("Radeon RX 7900 GRE", 576)
    assert found("something of Sapphire", pci_id="1002:7551") == ("Radeon AI PRO R9700", 640)
    assert found("GeForce RTX 3090", pci_id="1002:744c") == ("GeForce RTX 3090", 936)
    assert found("NVIDIA A100-SXM4-80GB MIG 3g.40gb", pci_id="10de:20b2") is None


@pytest.mark.parametrize(
    ("name", "mib", "expected"),
    [  # as nvidia-smi and amdgpu count
        ("NVIDIA GeForce RTX 3060", 12288, 360),
        ("NVIDIA GeForce RTX 3060", 8192, 240),
        ("NVIDIA GeForce RTX 3080", 10240, 760),
        ("NVIDIA GeForce RTX 3080", 12288, 912),
        ("NVIDIA GeForce RTX 2080 Ti", 11264, 616),
        ("NVIDIA GeForce RTX 2080 Ti", 22528, None),  # somebody gave it other chips
        ("Tesla T4", 15360, 320),
        ("Tesla P40", 22919, 346),
        ("NVIDIA A10G", 22731, 600),
        ("NVIDIA L4", 23034, 300),
        ("NVIDIA H100 80GB HBM3", 81559, 3350),
        ("NVIDIA H100 80GB HBM3", 40448, None),
        ("NVIDIA H200", 143771, 4800),
        ("NVIDIA GeForce RTX 5090", 32607, 1792),
        ("Radeon RX 7900 XTX", 24560, 960),
        ("AMD Instinct MI300X", 196592, 5300),
        ("Arc B580", 12216, 456),
    ],
)
def test_memory_tells_kinds_apart(name: str, mib: int, expected: float | None) -> None:
    told = found(name, memory_total_bytes=mib << 20)
    assert (told and told[1]) == expected


def test_unified_memory_is_the_machines() -> None:
    assert found("Orin (nvgpu)", memory_total_bytes=65_893_945_344) == ("Jetson AGX Orin", 204.8)
    assert found("Apple M6", memory_total_bytes=16 * GIB) == ("Apple M6", 153)
    assert found("Apple M6", memory_total_bytes=32 * GIB) == ("Apple M6", 170)


def test_of_several_kinds_the_slowest_is_assumed_and_said() -> None:
    assert one("GeForce RTX 3060").note == (
        "there are several kinds of GeForce RTX 3060 (12 GB, 360 GB/s; 8 GB, 240 GB/s): the slowest is assumed"
    )
    assert one("GeForce RTX 3060").memory_bytes == (8 * GIB,)
    assert one("Apple M4 Max").note == (
        "there are several kinds of Apple M4 Max (32-core GPU, 410 GB/s; 40-core GPU, 546 GB/s): the slowest is assumed"
    )
    for name in ("Apple M4 Max (32-core GPU)", "GeForce RTX 3060 12GB", "GeForce RTX 4060 Ti", "Apple M4"):
        assert one(name).note is None


def test_the_vendor_that_a_driver_tells_counts() -> None:
    assert found("610M", vendor="AMD") == ("Radeon 610M", None)
    assert found("610M", vendor="NVIDIA") is None
    assert found("GeForce RTX 3090", vendor="unknown") == ("GeForce RTX 3090", 936)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("GeForce RTX 4071", "GeForce RTX 4070"),
        ("Apple M3 Mix", "Apple M3 Max"),
        ("Radeon 7900 XTX", "Radeon RX 7900 XTX"),
    ],
)
def test_nearest(written: str, meant: str) -> None:
    assert meant in table.nearest(DEVICES, written)


def test_nothing_is_near_nonsense() -> None:
    assert table.nearest(DEVICES, "?") == []


@given(st.text(max_size=60), st.none() | st.text(max_size=12), st.none() | st.integers(0, 1 << 40))
def test_any_name_is_looked_up(name: str, pci_id: str | None, total: int | None) -> None:
    for device in table.matching(DEVICES, name=name, pci_id=pci_id, memory_total_bytes=total):
        assert device.name


FAMILY = 'vendor = "NVIDIA"\nkind = "discrete"\nsource = "a data sheet of it"\nchecked = "arithmetic"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "family must be a list of tables"),
        ("family = 3", "family must be a list of tables"),
        ("[[family]]\n" + FAMILY, "family[1].devices must be a list of tables"),
        ("[[family", "is not valid TOML"),
        (f"[[family]]\n{FAMILY}devices = [{{ gb_per_s = 3 }}]", "family[1].devices[1].name must be given, it is text"),
        (f"[[family]]\n{FAMILY}devices = [{{ name = 3 }}]", "family[1].devices[1].name must be text"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", gbps = 3 }}]', "device A.gbps must be left out"),
        (f'[[family]]\n{FAMILY}memory = 3\ndevices = [{{ name = "A" }}]', "device A.memory must be left out"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", gb_per_s = 0 }}]', "gb_per_s must be a number above 0"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", cores = true }}]', "cores must be a number above 0"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", memory_gib = 1.5 }}]', "memory_gib must be a whole number"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", pci = ["10DE"] }}]', "pci must be a list of four hexadecimal"),
        (f'[[family]]\n{FAMILY}devices = [{{ name = "A", aliases = "B" }}]', "aliases must be a list of texts"),
        (
            '[[family]]\nvendor = "x"\nkind = "memory"\ndevices = [{ name = "A" }]',
            "device A.source must be given, it is text",
        ),
        (
            f'[[family]]\n{FAMILY.replace("discrete", "huge")}devices = [{{ name = "A" }}]',
            "kind must be one of discrete, integrated, unified",
        ),
        (
            f'[[family]]\n{FAMILY.replace("arithmetic", "no")}devices = [{{ name = "A" }}]',
            "checked must be one of vendor, arithmetic, tables",
        ),
    ],
)
def test_a_broken_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "devices.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        table.load(tmp_path)
    assert said in caught.value.message
    assert "devices.toml" in caught.value.message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        table.load(tmp_path)
