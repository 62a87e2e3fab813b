"""Machines and models to plan with."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from llmctl import catalogue, paths
from llmctl.catalogue import Catalogue, Knowledge
from llmctl.planner.configure import configure
from llmctl.planner.placement import Placement, Placer
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, KernelRate, Machine, Memory
from llmctl.types.model import Artifact, Candidate, Evidence, Model, Shape, Source, SourceKind, Thinking, Weights
from llmctl.types.plan import Want

GIB = 1 << 30

# This project's first machine, two cores of an AMD EPYC, as `llmctl doctor --measure` saw it: bytes and operations per
# second, and whether the engine repacks the type.
EPYC_KERNELS = tuple(
    KernelRate(name, flow * 1e9, operations * 1e9, repacked)
    for name, flow, operations, repacked in (
        ("Q4_0", 39.0, 560, True),
        ("Q4_1", 27.0, 120, False),
        ("Q4_K", 38.5, 475, True),
        ("Q5_K", 28.5, 870, False),
        ("Q6_K", 34.0, 720, False),
        ("Q8_0", 37.5, 284, False),
        ("F16", 40.5, 390, False),
    )
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
