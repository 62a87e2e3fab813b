"""How many requests an engine that stays answers at once, by the memory that a plan leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.planner.placement import Placer
from llmctl.planner.sequences import MOST_SEQUENCES, sequences_with_room, with_sequences
from llmctl.types.machine import Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import CPU, Configuration, DeviceMemory, Fit, MemoryPlan
from tests.fakes.fits import fit_for
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import EPYC, GIB, desktop

MIB = 1 << 20
WEIGHTS = Weights(4 * GIB, 256 * MIB, 0, {"Q4_K": 3 * GIB, "Q6_K": 768 * MIB}, exact=True)


def fit_of(shape: Shape, *rows: DeviceMemory) -> Fit:
    fit = fit_for(Path("model.gguf"), context=8192)
    model = replace(fit.candidate.model, shape=shape)
    memory = MemoryPlan(rows, sum(row.total_bytes for row in rows), 0)
    return replace(fit, candidate=replace(fit.candidate, model=model), memory=memory)


def row(device: str, *, kv: int, available: int, weights: int = 2 * GIB) -> DeviceMemory:
    return DeviceMemory(device, weights, 0, kv, 0, 100 * MIB, weights + kv + 100 * MIB, available)


@pytest.mark.parametrize(
    ("machine", "gpu_layers", "counts"), [(EPYC, 0, ()), (desktop(), 33, (33,)), (desktop(), 20, (20,))]
)
@pytest.mark.parametrize("name", ["llama-3.1-8b", "granite-h-tiny", "gemma3-1b"])
def test_memory_is_what_the_planner_counts_for_so_many(
    machine: Machine, gpu_layers: int, counts: tuple[int, ...], name: str
) -> None:
    shape = shape_of(name)
    layers = min(gpu_layers, shape.n_layer + 1)
    settings = Configuration(8192, gpu_layers=layers, layers_per_device=counts and (layers,))
    one, three = (
        Placer(machine, shape, WEIGHTS).place(replace(settings, sequences=count), None).memory for count in (1, 3)
    )
    fit = replace(fit_of(shape), configuration=settings, memory=one)
    counted = with_sequences(fit, 3)
    assert counted.configuration == replace(settings, sequences=3)
    assert counted.memory.by_device == three.by_device
    assert counted.memory.must_fit_bytes == three.must_fit_bytes
    assert with_sequences(counted, 1).memory.by_device == one.by_device


LLAMA = shape_of("llama-3.1-8b")


@pytest.mark.parametrize(
    ("shape", "rows", "held", "sequences"),
    [
        (LLAMA, [row(CPU, kv=1 * GIB, available=20 * GIB)], {}, MOST_SEQUENCES),
        (LLAMA, [row(CPU, kv=1 * GIB, available=6 * GIB)], {}, 2),
        (LLAMA, [row(CPU, kv=1 * GIB, available=5 * GIB)], {}, 1),
        (LLAMA, [row(CPU, kv=1 * GIB, available=7 * GIB)], {CPU: 2 * GIB}, 1),
        (LLAMA, [row(CPU, kv=0, available=20 * GIB), row("cuda0", kv=1 * GIB, available=5 * GIB)], {}, 2),
        (LLAMA, [row(CPU, kv=0, available=20 * GIB), row("cuda0", kv=2 * GIB, available=5 * GIB)], {}, 1),
        (shape_of("bge-m3"), [row(CPU, kv=0, available=20 * GIB)], {}, 1),
    ],
)
def test_as_many_as_leave_room(shape: Shape, rows: list[DeviceMemory], held: dict[str, int], sequences: int) -> None:
    assert sequences_with_room(fit_of(shape, *rows), held) == sequences
