"""What the engine tells of itself, asked for real and of broken stand-ins; and how it is merged with the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import child, paths
from llmctl.engine import devices
from llmctl.engine.devices import engines
from llmctl.engine.devices.machine import this_machine, with_devices, with_kernels
from llmctl.engine.devices.pairing import CPU_BACKENDS
from llmctl.engine.measure import kernels
from llmctl.files import measured_cache
from llmctl.host import Host
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, EngineDevice, EngineInfo, Machine, Memory


def test_the_installed_engine_tells_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engines(Host())[0]
    assert engine.usable, engine.why
    assert engine.version is not None
    assert engine.build is not None and engine.build.startswith("ggml ")
    assert "CPU" in engine.backends
    assert [device.kind for device in engine.devices if device.backend == "CPU"] == ["cpu"]
    assert engine.features

    def asked_again(*_: Any, **__: Any) -> child.Reply:
        raise AssertionError("the child was started again")

    if set(engine.backends) <= CPU_BACKENDS:
        monkeypatch.setattr(child, "ask", asked_again)
    assert engines(Host())[0] == engine


def test_a_broken_cache_file_is_ignored_and_replaced() -> None:
    engine = engines(Host())[0]
    if not set(engine.backends) <= CPU_BACKENDS:
        pytest.skip("an engine with GPU backends is asked each time")
    (file,) = paths.cache_dir().glob("engine-*.json")
    good = file.read_bytes()
    for broken in (b"", b"{", b"[]", b'{"key": 1}', good.replace(b'"usable": true', b'"usable": "yes"')):
        file.write_bytes(broken)
        assert engines(Host())[0] == engine
        assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_none(home: Path) -> None:
    (home / "cache").write_text("a file where a folder should be")
    measured_cache.write("engine", ["key"], 1)
    assert measured_cache.read("engine", ["key"]) is None


def test_the_cache_knows_keys_apart() -> None:
    measured_cache.write("engine", ["a", 1], {"x": 1})
    assert measured_cache.read("engine", ["a", 1]) == {"x": 1}
    assert measured_cache.read("engine", ["a", 2]) is None
    assert measured_cache.read("kernels", ["a", 1]) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "this build is for another CPU"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "llama-cpp-python crashed (signal 11)"),
        ("raise ImportError('numpy is missing')", "llama-cpp-python can't be loaded: numpy is missing"),
        ("raise RuntimeError('Failed to load shared library')", "can't be loaded: Failed to load shared library"),
        # what is missing stands behind a long path
        (f"raise RuntimeError('Failed to load {'x' * 300}: libcudart.so.12: cannot open')", "libcudart.so.12: cannot"),
        # how ctypes tells of an illegal instruction on Windows, while loading or later
        ("raise OSError('[WinError -1073741795] Windows Error 0xc000001d')", "this build is for another CPU (it was"),
        ("import sys; sys.exit('OSError: [WinError -1073741795] Windows Error 0xC000001D')", "is for another CPU (it"),
        ("import time; time.sleep(60)", "llama-cpp-python did not answer within 0.5 s"),
    ],
)
def test_engines_that_cannot_be_used_say_why(tmp_path: Path, body: str, why: str) -> None:
    (tmp_path / "llama_cpp.py").write_text(body)
    host = Host(environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    engine = devices.ask(host, deadline_s=0.5 if "sleep" in body else 10)
    assert not engine.usable
    assert why in (engine.why or "")


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MODULE", "no_such_engine")
    assert engines(Host())[0] == EngineInfo("llama-cpp-python", None, None, why="llama-cpp-python is not installed")
    machine, answered = this_machine(Host(), store=Path("/"))
    assert (machine.kernels, answered[0].usable) == (None, False)


def test_a_recorded_machine_has_no_engine(tmp_path: Path) -> None:
    (engine,) = engines(Host(root=tmp_path))
    assert engine.why == "llama-cpp-python was not recorded"


def test_this_machine_knows_what_was_measured_earlier() -> None:
    assert this_machine(Host(), store=Path("/"))[0].kernels is None
    machine, (engine, *_) = this_machine(Host(), store=Path("/"))
    rates = Kernels(tuple(MatrixRate(name, False, machine.cpu.usable_threads, 39e9, 4e11) for name in ("Q4_K", "Q8_0")))
    measured_cache.write(kernels.SUBJECT, kernels.key_of(machine, engine), asdict(rates))
    machine, _ = this_machine(Host(), store=Path("/"))
    assert (machine.kernels, machine.memory.bandwidth_bytes_per_s) == (rates, 39e9)
    assert machine.memory.bandwidth_basis == "measured (engine kernels)"


Q4_K, Q8_0 = MatrixRate("Q4_K", False, 2, 33e9, 9e11), MatrixRate("Q8_0", False, 2, 42e9, 3e11)
Q4_K_ALONE, Q8_0_ALONE = MatrixRate("Q4_K", False, 1, 25e9, 5e11), MatrixRate("Q8_0", False, 1, 31e9, 1.5e11)
DISTURBED = replace(Q8_0, decode_bytes_per_s=9e9, uncertain=("decode_bytes_per_s",))


@pytest.mark.parametrize(
    ("rows", "flow", "basis"),
    [
        ((Q4_K, Q8_0, Q4_K_ALONE, Q8_0_ALONE), 42e9, "measured"),
        ((Q4_K, Q4_K_ALONE, Q8_0_ALONE), 31e9 * 33 / 25, "estimated"),
        ((Q4_K, DISTURBED, Q4_K_ALONE, Q8_0_ALONE), 31e9 * 33 / 25, "estimated"),
        ((Q4_K, replace(Q8_0, decode_bytes_per_s=14.1e9), Q4_K_ALONE, Q8_0_ALONE), 31e9 * 33 / 25, "estimated"),
        ((Q8_0_ALONE,), 42.4e9 * 31 / 30.9, "estimated"),
        ((Q4_K,), 42.4e9 * 33 / 33.2, "estimated"),
        ((DISTURBED,), 20e9, "specified"),
        ((), 20e9, "specified"),
    ],
    ids=["all", "Q8_0 missing", "Q8_0 disturbed", "Q8_0 slower with two", "one thread", "Q4_K", "disturbed", "none"],
)
def test_the_memorys_bandwidth_is_never_that_of_one_thread_or_of_a_disturbed_pass(
    rows: tuple[MatrixRate, ...], flow: float, basis: str
) -> None:
    bare = Machine(Memory(32 << 30, 20 << 30, bandwidth_bytes_per_s=20e9, bandwidth_basis="specified"), TWO_CORES)
    memory = with_kernels(bare, Kernels(rows)).memory
    assert memory.bandwidth_bytes_per_s == pytest.approx(flow)
    assert (memory.bandwidth_basis or "").split(" (")[0] == basis


def test_a_gpu_in_the_machines_memory_has_the_bandwidth_that_was_measured() -> None:
    bare = Machine(Memory(32 << 30, 20 << 30, bandwidth_bytes_per_s=20e9, bandwidth_basis="specified"), TWO_CORES)
    radeon = card("0000:c5:00.0", "AMD Radeon 780M", "AMD", 16 << 30, kind=INTEGRATED)
    listed = engine(gpu("Vulkan0", "AMD Radeon 780M", "Vulkan", radeon.id, kind="igpu"))
    machine = with_devices(replace(bare, accelerators=(radeon, NVIDIA)), (listed,))
    before, after = (
        [(gpu.bandwidth_bytes_per_s, gpu.bandwidth_basis) for gpu in with_kernels(machine, measured).accelerators]
        for measured in (None, Kernels((Q4_K, Q8_0)))
    )
    assert before == [(20e9, "specified"), (None, None)]
    assert after == [(42e9, "measured (engine kernels)"), (None, None)]


TWO_CORES = Cpu("a processor", "x86_64", 2, 2, 2, ("AVX2", "AVX512"))


BARE = Machine(Memory(32 << 30, 20 << 30), Cpu("cpu", "x86_64", 8, 16, 8))
CPU = EngineDevice("CPU", "cpu", "CPU", "cpu", 32 << 30, 32 << 30)


def card(id: str, name: str, vendor: str, total: int | None = None, **more: Any) -> Accelerator:
    kind = more.pop("kind", AcceleratorKind.DISCRETE)
    return Accelerator(id, name, vendor, kind, total, more.pop("free", total), **more)


def gpu(name: str, description: str, backend: str, id: str | None = None, kind: str = "gpu") -> EngineDevice:
    return EngineDevice(name, description, backend, kind, 24 << 30, 20 << 30, id)


def engine(*listed: EngineDevice, backends: tuple[str, ...] | None = None) -> EngineInfo:
    names = tuple(dict.fromkeys(device.backend for device in listed)) if backends is None else backends
    return EngineInfo("llama-cpp-python", "0.3.36", "ggml", (*names, "CPU"), (), (*listed, CPU), usable=True)


def merged(cards: tuple[Accelerator, ...], *answered: EngineInfo) -> list[tuple[str, bool, str | None, str | None]]:
    machine = with_devices(replace(BARE, accelerators=cards), answered)
    return [(gpu.id, gpu.usable, gpu.engine_backend, gpu.why) for gpu in machine.accelerators]


NVIDIA = card("0000:01:00.0", "NVIDIA GeForce RTX 3090", "NVIDIA", 24 << 30)
SECOND = card("0000:02:00.0", "NVIDIA GeForce RTX 3090", "NVIDIA", 24 << 30)
RADEON = card("0000:03:00.0", "AMD GPU (1002:747e)", "AMD", 16 << 30)
ABSENT = EngineInfo("llama-cpp-python", None, None, why="llama-cpp-python is not installed")


@pytest.mark.parametrize(
    ("cards", "answered", "expected"),
    [
        ((), engine(), []),
        ((NVIDIA,), engine(), [(NVIDIA.id, False, None, "the engine is built for the CPU only")]),
        (
            (NVIDIA,),
            EngineInfo("llama-cpp-python", None, None, why="this build is for another CPU"),
            [(NVIDIA.id, False, None, "this build is for another CPU")],
        ),
        (
            (RADEON,),
            engine(backends=("Vulkan",)),
            [(RADEON.id, False, None, "the engine's Vulkan backend does not see it")],
        ),
        (
            (card("0000:00:02.0", "Intel GPU", "Intel"),),
            engine(backends=("CUDA",)),
            [("0000:00:02.0", False, None, "the engine is built for CUDA, which can't drive Intel cards")],
        ),
        # by PCI address, whatever the names
        (
            (RADEON,),
            engine(gpu("Vulkan0", "AMD Radeon RX 7800 XT (RADV NAVI32)", "Vulkan", RADEON.id)),
            [(RADEON.id, True, "Vulkan", None)],
        ),
        # by name, two of one kind, each its own device
        (
            (NVIDIA, SECOND),
            engine(gpu("CUDA0", NVIDIA.name, "CUDA"), gpu("CUDA1", NVIDIA.name, "CUDA")),
            [(NVIDIA.id, True, "CUDA", None), (SECOND.id, True, "CUDA", None)],
        ),
        # a card seen by two backends is one card
        (
            (NVIDIA,),
            engine(gpu("CUDA0", NVIDIA.name, "CUDA", NVIDIA.id), gpu("Vulkan0", NVIDIA.name, "Vulkan", NVIDIA.id)),
            [(NVIDIA.id, True, "CUDA", None)],
        ),
        # the only card of its vendor on both sides
        (
            (RADEON, NVIDIA),
            engine(gpu("Vulkan0", "AMD Radeon Graphics", "Vulkan")),
            [
                (RADEON.id, True, "Vulkan", None),
                (NVIDIA.id, False, None, "the engine's Vulkan backend does not see it"),
            ],
        ),
        # what plays a GPU is none
        ((), engine(gpu("Vulkan0", "llvmpipe (LLVM 17.0.6, 256 bits)", "Vulkan")), []),
        ((NVIDIA,), ABSENT, [(NVIDIA.id, False, None, "llama-cpp-python is not installed")]),
        # what only the engine sees is added once
        (
            (),
            engine(gpu("ROCm0", "Radeon", "ROCm", "0000:09:00.0"), gpu("Vulkan0", "Radeon", "Vulkan", "0000:09:00.0")),
            [("0000:09:00.0", True, "ROCm", None)],
        ),
    ],
)
def test_cards_and_devices_are_merged(
    cards: tuple[Accelerator, ...], answered: EngineInfo, expected: list[tuple[str, bool, str | None, str | None]]
) -> None:
    assert merged(cards, answered) == expected


CUDA0 = gpu("CUDA0", "NVIDIA GeForce RTX 3090", "CUDA")


def test_the_engine_that_is_started() -> None:
    assert devices.startable((ABSENT,)) is None
    assert devices.startable(()) is None
    assert devices.startable((engine(),)) == engine()


def test_another_slice_of_the_same_card() -> None:
    slices = [
        card(f"MIG-{n}", f"NVIDIA A100 MIG {n}g.{size}gb", "NVIDIA", size << 30, parent=NVIDIA.id, uuid=f"MIG-{n}")
        for n, size in ((1, 5), (3, 20))
    ]
    assert merged(tuple(slices), engine(gpu("CUDA0", "NVIDIA A100 MIG 3g.20gb", "CUDA", NVIDIA.id))) == [
        ("MIG-1", False, None, "CUDA uses another slice of its card: CUDA_VISIBLE_DEVICES=MIG-1 chooses this one"),
        ("MIG-3", True, "CUDA", None),
    ]


def test_a_card_that_llama_cpp_was_told_to_split_is_one() -> None:
    halves = [replace(CUDA0, name=f"CUDA{n}", id=f"{NVIDIA.id}-v{n}") for n in range(2)]
    assert merged((NVIDIA,), engine(*halves)) == [(NVIDIA.id, True, "CUDA", None)]
    assert merged((), engine(*halves)) == [(NVIDIA.id, True, "CUDA", None)]


def test_cards_that_only_engines_know_have_ids_of_their_own() -> None:
    devices = CUDA0, replace(CUDA0, description="NVIDIA GeForce RTX 4090")
    assert [id for id, *_ in merged((), engine(*devices))] == ["CUDA0", "CUDA0-2"]


DISCRETE, INTEGRATED, UNIFIED = AcceleratorKind


@pytest.mark.parametrize(
    ("probed", "device", "kind", "total", "free", "shared"),
    [
        # the probe knows best, but for what is integrated
        (card("a", "x", "AMD", 16, free=9), ("igpu", 24, 20), INTEGRATED, 16, 9, None),
        (card("a", "x", "AMD", 16, free=9, shared_bytes=8), ("igpu", 24, 20), INTEGRATED, 16, 9, 8),
        (card("a", "x", "AMD", 16, free=9, kind=INTEGRATED), ("gpu", 24, 20), INTEGRATED, 16, 9, None),
        (card("a", "x", "NVIDIA", 16, free=9), ("gpu", 24, 20), DISCRETE, 16, 9, None),
        # what it does not know
        (card("a", "x", "Intel"), ("gpu", 24, 20), DISCRETE, 24, 20, None),
        (card("a", "x", "Intel", kind=INTEGRATED), ("igpu", 24, 20), INTEGRATED, 24, 20, 24),
        (card("a", "x", "NVIDIA", kind=UNIFIED), ("igpu", 24, 20), UNIFIED, 24, 20, 24),
        (card("a", "x", "Intel", 16, free=None), ("gpu", 24, 20), DISCRETE, 16, 16, None),
        # cudaMemGetInfo failed
        (card("a", "x", "NVIDIA"), ("gpu", 0, 0), DISCRETE, None, None, None),
        # a card that only the engine knows
        (None, ("gpu", 24, 20), DISCRETE, 24, 20, None),
        (None, ("igpu", 24, 20), UNIFIED, 24, 20, 24),
    ],
)
def test_what_engines_know_of_memory(
    probed: Accelerator | None,
    device: tuple[str, int, int],
    kind: AcceleratorKind,
    total: int | None,
    free: int | None,
    shared: int | None,
) -> None:
    listed = EngineDevice("CUDA0", "NVIDIA x", "CUDA", *device, NVIDIA.id)
    cards = () if probed is None else (replace(probed, id=NVIDIA.id),)
    (merged_card,) = with_devices(replace(BARE, accelerators=cards), [engine(listed)]).accelerators
    assert (merged_card.kind, merged_card.memory_total_bytes) == (kind, total)
    assert (merged_card.memory_free_bytes, merged_card.shared_bytes) == (free, shared)


def test_without_any_engine() -> None:
    assert merged((NVIDIA,)) == [(NVIDIA.id, False, None, "no engine is installed")]


def test_the_engine_fills_in_what_the_probe_could_not_learn() -> None:
    unified = card("0000:0f:00.0", "NVIDIA GB10", "NVIDIA", kind=AcceleratorKind.UNIFIED)
    machine = with_devices(
        replace(BARE, accelerators=(unified,)), [engine(gpu("CUDA0", "NVIDIA GB10", "CUDA", unified.id))]
    )
    (merged_card,) = machine.accelerators
    assert (merged_card.memory_total_bytes, merged_card.memory_free_bytes) == (24 << 30, 20 << 30)
    assert merged_card.kind is AcceleratorKind.UNIFIED


def test_the_probes_free_memory_wins_and_the_engine_knows_what_is_integrated() -> None:
    radeon = card("0000:c5:00.0", "AMD GPU (1002:15bf)", "AMD", 16 << 30, free=9 << 30)
    device = gpu("Vulkan0", "AMD Radeon 780M", "Vulkan", radeon.id, kind="igpu")
    (merged_card,) = with_devices(replace(BARE, accelerators=(radeon,)), [engine(device)]).accelerators
    assert (merged_card.memory_free_bytes, merged_card.kind) == (9 << 30, AcceleratorKind.INTEGRATED)


@pytest.mark.parametrize(
    ("device", "vendor", "kind"),
    [
        (gpu("Metal", "Apple M3 Max", "Metal"), "Apple", AcceleratorKind.UNIFIED),
        (gpu("Vulkan0", "Intel(R) Arc(TM) A770", "Vulkan"), "Intel", AcceleratorKind.DISCRETE),
        (gpu("SYCL0", "Graphics", "SYCL", kind="igpu"), "Intel", AcceleratorKind.INTEGRATED),
        (gpu("Vulkan0", "Something", "Vulkan"), "unknown", AcceleratorKind.DISCRETE),
    ],
)
def test_vendor_and_kind_of_what_only_the_engine_sees(device: EngineDevice, vendor: str, kind: AcceleratorKind) -> None:
    (merged_card,) = with_devices(BARE, [engine(device)]).accelerators
    assert (merged_card.vendor, merged_card.kind, merged_card.usable) == (vendor, kind, True)


def test_summary_for_version() -> None:
    assert devices.summary(engine()) == "llama-cpp-python 0.3.36 (ggml; CPU)"
    broken = EngineInfo("llama-cpp-python", None, None, why="it is not installed")
    assert devices.summary(broken) == "llama-cpp-python not usable: it is not installed"
