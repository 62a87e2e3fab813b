"""Machines and models to plan with."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.catalogue import Catalogue, Knowledge
from llmctl.planner.configure import configure
from llmctl.planner.placement import Placement, Placer
from llmctl.types.kernels import AttentionRate, Kernels, MatrixRate, NodeRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory
from llmctl.types.model import Artifact, Candidate, Evidence, Model, Shape, Source, SourceKind, Thinking, Weights
from llmctl.types.plan import Want

GIB = 1 << 30

# This project's first machine, two cores of an AMD EPYC, as `llmctl doctor --measure` saw it: bytes and operations per
# second, and whether the engine repacks the type.
EPYC_KERNELS = Kernels(
    matrices=tuple(
        MatrixRate(name, repacked, threads, flow * 1e9, operations * 1e9)
        for name, repacked, threads, flow, operations in (
            ("Q4_K", True, 2, 43.6, 469),
            ("Q4_K", True, 1, 28.5, 239),
            ("Q4_K", False, 2, 33.2, 896),
            ("Q4_K", False, 1, 25.6, 500),
            ("Q6_K", False, 2, 40.5, 762),
            ("Q8_0", False, 2, 42.4, 296),
            ("Q8_0", False, 1, 30.9, 151),
            ("Q4_0", True, 2, 44.5, 589),
            ("Q4_0", False, 2, 27.8, 248),
            ("Q5_K", False, 2, 28.7, 900),
            ("F16", False, 2, 45.0, 394),
            ("Q4_1", False, 2, 29.3, 126),
        )
    ),
    experts=(MatrixRate("Q4_K", True, 2, 48.0e9, 230e9), MatrixRate("Q4_K", False, 2, 32.0e9, 750e9)),
    attention=(
        AttentionRate("f16", False, 2, 22.7e9, 13.3e9, 172e9),
        AttentionRate("f16", True, 2, 9.5e9, 6.2e9, 151e9),
        AttentionRate("q8_0", True, 2, 6.2e9, 2.7e9, 22e9),
    ),
    overheads=(NodeRate(2, 1.59e6, 8e9), NodeRate(1, 3.05e6, 4e9)),
)
EPYC = Machine(
    Memory(total_bytes=24_684_092 * 1024, available_bytes=23 * GIB, bandwidth_bytes_per_s=40e9),
    Cpu("AMD EPYC", "x86_64", 2, 2, 2, ("AVX2", "AVX512")),
    kernels=EPYC_KERNELS,
)
LAPTOP = Machine(
    Memory(total_bytes=16 * GIB, available_bytes=13 * GIB, bandwidth_bytes_per_s=51.2e9),
    Cpu("some laptop", "x86_64", 8, 16, 8, ("AVX2",)),
)


def desktop(free_gib: float = 11.5, *, memory_gib: float = 28) -> Machine:
    card = Accelerator(
        "cuda0",
        "RTX 3060",
        "NVIDIA",
        AcceleratorKind.DISCRETE,
        12 * GIB,
        round(free_gib * GIB),
        bandwidth_bytes_per_s=360e9,
        engine_backend="CUDA",
        usable=True,
    )
    memory = Memory(32 * GIB, round(memory_gib * GIB), bandwidth_bytes_per_s=51.2e9)
    return replace(LAPTOP, memory=memory, accelerators=(card,))


def mac(memory_gib: float = 50, budget_gib: float = 48) -> Machine:
    gpu = Accelerator(
        "metal0",
        "M3 Max",
        "Apple",
        AcceleratorKind.UNIFIED,
        48 * GIB,
        round(budget_gib * GIB),
        bandwidth_bytes_per_s=400e9,
        engine_backend="metal",
        usable=True,
    )
    memory = Memory(64 * GIB, round(memory_gib * GIB), bandwidth_bytes_per_s=400e9)
    return Machine(memory, Cpu("M3 Max", "arm64", 12, 12, 12, ("NEON", "DOTPROD", "MATMUL_INT8")), accelerators=(gpu,))


@cache
def knowledge() -> Knowledge:
    return catalogue.load_knowledge(paths.profiles_dir())


@cache
def shipped() -> Catalogue:
    return catalogue.load(paths.profiles_dir() / "models")


def everything() -> tuple[Candidate, ...]:
    return catalogue.candidates(shipped(), None, find=lambda source: None)


def of(name: str) -> tuple[Candidate, ...]:
    return catalogue.candidates(shipped(), name, find=lambda source: None)


def made(
    name: str = "made-4b",
    *,
    gib: float = 2.5,
    quant: str = "Q4_K_M",
    mmlu_pro: float | None = 60,
    thinking: Thinking = Thinking.NEVER,
    context: int = 32768,
    path: Path | None = None,
) -> Candidate:
    """A dense model of some 4B in one file of Q4_K, with one published result."""
    size = round(gib * GIB)
    shape = Shape("llama", 32, 2560, 32, 9728, 150_000, context, kv_width=32 * 2 * 8 * 128)
    weights = Weights(size, 0, 0, {"Q4_K": size}, exact=True)
    source = Source(SourceKind.HUB, f"example/{name}", f"{name}-{quant}.gguf", size + 10_000_000)
    artifact = Artifact(quant, source, weights)
    evidence = () if mmlu_pro is None else (Evidence("MMLU-Pro", mmlu_pro, "https://example.org"),)
    model = Model(
        name,
        name,
        None,
        "MIT",
        shape,
        (artifact,),
        parameters=8_000_000_000,
        tasks=("chat",),
        thinking=thinking,
        evidence=evidence,
    )
    return Candidate(model, artifact, path)


def with_cards(*free_gib: float, memory_gib: float = 28) -> Machine:
    """A desktop with several cards."""
    cards = [
        replace(desktop(free).accelerators[0], id=f"cuda{number}", name=f"card {number}")
        for number, free in enumerate(free_gib)
    ]
    return replace(desktop(memory_gib=memory_gib), accelerators=tuple(cards))


def placed(
    machine: Machine, shape: Shape, weights: Weights, context: int = 8192, gpu_layers: int | None = None
) -> Placement:
    """What the planner makes of it at exactly this context."""
    return configure(Placer(machine, shape, weights), Want(gpu_layers=gpu_layers), (context,), lambda _: None)
