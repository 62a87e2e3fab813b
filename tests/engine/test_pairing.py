"""Which device is which card: by address, by name, by what is left; and never one twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.engine.devices import pairing
from llmctl.engine.devices.machine import SPELT, with_devices
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, EngineDevice, EngineInfo, Machine, Memory

GIB = 1 << 30


def card(id: str, name: str, vendor: str, total_gib: int = 8, **facts: Any) -> Accelerator:
    kind = facts.pop("kind", AcceleratorKind.DISCRETE)
    return Accelerator(id, name, vendor, kind, total_gib * GIB, None, **facts)


def igpu(id: str, name: str, vendor: str, total_gib: int = 16) -> Accelerator:
    return card(id, name, vendor, total_gib, kind=AcceleratorKind.INTEGRATED)


def device(name: str, id: str | None = None, kind: str = "gpu", gib: int = 8, on: str = "Vulkan") -> EngineDevice:
    return EngineDevice(f"{on}0", name, on, kind, gib * GIB, gib * GIB, id)


def slice_of(parent: str, uuid: str, name: str, total_gib: int) -> Accelerator:
    return card(uuid, name, "NVIDIA", total_gib, parent=parent, uuid=uuid)


A100 = "0000:01:00.0"
SMALL = slice_of(A100, "MIG-1", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5)
LARGE = slice_of(A100, "MIG-2", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20)
ARC_DEVICE = "Intel(R) Arc(TM) A770 Graphics"
RTX = card("a", "NVIDIA GeForce RTX 3090", "NVIDIA")
NAVI = card("0000:03:00.0", "AMD Radeon RX 7900 XTX", "AMD", 24)
RAPHAEL = igpu("0000:11:00.0", "Raphael", "AMD")
NAVI_DEVICE = "AMD Radeon RX 7900 XTX (RADV NAVI31)"
RAPHAEL_DEVICE = "AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)"
ARC, UHD = card("0000:03:00.0", "Arc A770", "Intel", 16), igpu("0000:00:02.0", "UHD Graphics 770", "Intel")


@pytest.mark.parametrize(
    ("cards", "devices", "expected"),
    [
        # addresses, as each source writes them
        ([card("0000:01:00.0", "x", "NVIDIA")], [device("y", "0000:01:00.0", on="CUDA")], {0: 0}),
        ([card("0000:0a:00.0", "x", "NVIDIA")], [device("y", "0000:0A:00.0", on="CUDA")], {0: 0}),
        ([card("00000000:0a:00.0", "x", "NVIDIA")], [device("y", "0000:0a:00.0", on="CUDA")], {0: 0}),
        ([card("10000:e1:00.0", "x", "Intel")], [device("y", "0000:e1:00.0")], {0: 0}),
        ([card("0000:01:00.0", "x", "NVIDIA")], [device("y", "0000:01:00.0-v1", on="CUDA")], {0: 0}),
        # another place is another card, whatever its name
        ([card("0000:01:00.0", "RTX 3090", "NVIDIA")], [device("RTX 3090", "0000:02:00.0", on="CUDA")], {}),
        # two of one name in their order, or as their addresses say
        ([RTX, card("b", RTX.name, "NVIDIA")], [device(RTX.name), device(RTX.name)], {0: 0, 1: 1}),
        (
            [card("0000:01:00.0", "RTX 3090", "NVIDIA"), card("0000:02:00.0", "RTX 3090", "NVIDIA")],
            [device("RTX 3090", "0000:02:00.0"), device("RTX 3090", "0000:01:00.0")],
            {0: 1, 1: 0},
        ),
        # one vendor's card and its integrated GPU, in either order, with kinds or without
        ([NAVI, RAPHAEL], [device(NAVI_DEVICE, gib=24), device(RAPHAEL_DEVICE, kind="igpu", gib=32)], {0: 0, 1: 1}),
        ([NAVI, RAPHAEL], [device(RAPHAEL_DEVICE, kind="igpu", gib=32), device(NAVI_DEVICE, gib=24)], {0: 1, 1: 0}),
        ([RAPHAEL, NAVI], [device(RAPHAEL_DEVICE, gib=32), device(NAVI_DEVICE, gib=24)], {0: 0, 1: 1}),
        ([NAVI, RAPHAEL], [device(RAPHAEL_DEVICE, kind="igpu")], {0: 1}),
        ([NAVI, RAPHAEL], [device(NAVI_DEVICE)], {0: 0}),
        # a name that lists models; none at all
        (
            [card("a", "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", "AMD"), RAPHAEL],
            [device(RAPHAEL_DEVICE), device(NAVI_DEVICE)],
            {0: 1, 1: 0},
        ),
        (
            [card("a", "AMD GPU (1002:744c)", "AMD"), igpu("b", "AMD GPU (1002:164e)", "AMD")],
            [device("Radeon Graphics", kind="igpu"), device(NAVI_DEVICE)],
            {0: 1, 1: 0},
        ),
        ([ARC, UHD], [device("Intel(R) UHD Graphics 770", kind="igpu"), device(ARC_DEVICE)], {0: 1, 1: 0}),
        ([UHD], [device(ARC_DEVICE)], {}),
        ([RTX], [device("NVIDIA GeForce RTX 3060", on="CUDA")], {}),
        ([RTX], [device(NAVI_DEVICE)], {}),
        # Apple's name with its cores, and a virtual machine's
        ([card("metal0", "Apple M3 Max (40-core GPU)", "Apple")], [device("Apple M3 Max", on="MTL")], {0: 0}),
        ([card("metal0", "Apple M3 Max", "Apple")], [device("Apple Paravirtual device", on="Metal")], {0: 0}),
        # Vulkan through another system's driver
        ([RTX], [device("Microsoft Direct3D12 (NVIDIA GeForce RTX 3090)")], {0: 0}),
        ([RTX], [device("Virtio-GPU Venus (NVIDIA GeForce RTX 4090)")], {}),
        # Jetson: the board's name and the driver's
        ([card("nvidia0", "NVIDIA Jetson AGX Orin", "NVIDIA")], [device("Orin", on="CUDA")], {0: 0}),
        # slices have the address of their card; names tell them apart, else sizes
        ([SMALL, LARGE], [device(LARGE.name, A100, on="CUDA", gib=20)], {0: 1}),
        ([SMALL, LARGE], [device("NVIDIA A100-SXM4-40GB", A100, on="CUDA", gib=19)], {0: 1}),
        ([SMALL, LARGE], [device(LARGE.name, A100, gib=20), device(SMALL.name, A100, gib=5)], {0: 1, 1: 0}),
        ([card(A100, "NVIDIA A100-SXM4-40GB", "NVIDIA", 40), SMALL], [device(SMALL.name, A100, on="CUDA")], {0: 1}),
        ([SMALL], [device(SMALL.name, "0000:02:00.0", on="CUDA")], {}),
        # nothing to tell by
        ([card("a", "", "unknown")], [device("")], {0: 0}),
        ([], [device("NVIDIA GeForce RTX 3090")], {}),
    ],
)
def test_pairs(cards: list[Accelerator], devices: list[EngineDevice], expected: dict[int, int]) -> None:
    assert pairing.pairs(cards, devices) == expected


@pytest.mark.parametrize(
    ("listed", "gpu"),
    [
        (device(NAVI_DEVICE), True),
        (device(RAPHAEL_DEVICE, kind="igpu"), True),
        (device("llvmpipe (LLVM 17.0.6, 256 bits)"), False),
        (device("SwiftShader Device (LLVM 10.0.0)"), False),
        (device("Microsoft Direct3D12 (Microsoft Basic Render Driver)"), False),
        (device("OpenBLAS", kind="accel", on="BLAS"), False),
        (device("12th Gen Intel(R) Core(TM) i5-12400", kind="cpu", on="CPU"), False),
        (device("10.0.0.2:50052", on="RPC"), False),
        (device("something new", kind="unknown"), False),
    ],
)
def test_what_is_a_gpu_of_this_machine(listed: EngineDevice, gpu: bool) -> None:
    assert pairing.is_gpu(listed) is gpu


NAMES = [NAVI_DEVICE, RAPHAEL_DEVICE, "Raphael", "NVIDIA GeForce RTX 3090", "Intel(R) Arc(TM) A770 Graphics", "", "x"]
IDS = ["0000:01:00.0", "0000:01:00.0-v1", "0000:02:00.0", "00000000:02:00.0", "MIG-1", "CUDA0", "Vulkan0", "Vulkan0-2"]
SIZES = st.integers(0, 64 * GIB)
CARDS = st.lists(
    st.builds(
        Accelerator,
        st.sampled_from(IDS),
        st.sampled_from(NAMES),
        st.sampled_from([*pairing.BACKENDS, "unknown"]),
        st.sampled_from(AcceleratorKind),
        st.none() | SIZES,
        st.none() | SIZES,
        parent=st.sampled_from([None, *IDS[:3]]),
    ),
    max_size=4,
    unique_by=lambda card: card.id,
)
DEVICES = st.lists(
    st.builds(
        EngineDevice,
        st.sampled_from(["CUDA0", "CUDA1", "Vulkan0", "CPU"]),
        st.sampled_from([*NAMES, "llvmpipe (LLVM 17.0.6, 256 bits)"]),
        st.sampled_from(["CUDA", "ROCm", "Vulkan", "SYCL", "MTL", "CPU", "RPC", "WebGPU"]),
        st.sampled_from(["cpu", "gpu", "igpu", "accel", "unknown"]),
        SIZES,
        SIZES,
        st.none() | st.sampled_from(IDS),
    ),
    max_size=5,
)
ENGINES = st.lists(
    st.builds(
        EngineInfo,
        st.just("llama-cpp-python"),
        st.none(),
        st.none(),
        devices=DEVICES.map(tuple),
        usable=st.booleans(),
    ),
    max_size=1,
)


@given(CARDS, DEVICES)
def test_no_card_is_given_twice(cards: list[Accelerator], devices: list[EngineDevice]) -> None:
    card_of_device = pairing.pairs(cards, devices)
    assert len(set(card_of_device.values())) == len(card_of_device)
    assert set(card_of_device) <= set(range(len(devices)))
    assert set(card_of_device.values()) <= set(range(len(cards)))


@given(CARDS, ENGINES)
def test_whatever_engines_tell_no_card_is_lost_and_each_has_its_own_id(
    cards: list[Accelerator], engines: list[EngineInfo]
) -> None:
    machine = Machine(Memory(32 * GIB, 20 * GIB), Cpu("cpu", "x86_64", 8, 16, 8), accelerators=tuple(cards))
    merged = with_devices(machine, engines).accelerators
    assert [(accelerator.id, accelerator.name, accelerator.vendor) for accelerator in merged[: len(cards)]] == [
        (c.id, c.name, c.vendor) for c in cards
    ]
    assert len({accelerator.id for accelerator in merged}) == len(merged)
    gpus = [[device for device in engine.devices if pairing.is_gpu(device)] for engine in engines if engine.usable]
    assert len(merged) <= len(cards) + sum(map(len, gpus))
    started = [engine for engine in engines if engine.usable]
    backends = {device.backend for engine in started for device in engine.devices if pairing.is_gpu(device)}
    for accelerator in merged:
        assert accelerator.usable is (accelerator.why is None) is (accelerator.engine_backend is not None)
        assert accelerator.engine_backend is None or accelerator.engine_backend in {
            SPELT.get(name, name) for name in backends
        }
        if accelerator.memory_total_bytes and accelerator not in cards:
            assert accelerator.shared_bytes is None or accelerator.shared_bytes <= accelerator.memory_total_bytes
    for backend in backends:
        listed = [
            device
            for engine in started
            for device in engine.devices
            if device.backend == backend and pairing.is_gpu(device)
        ]
        assert sum(accelerator.engine_backend == SPELT.get(backend, backend) for accelerator in merged) <= len(listed)
