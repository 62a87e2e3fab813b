"""Flash attention only where the backend has a kernel for a model's heads."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner.configure import configure
from llmctl.planner.flash_kernels import has_kernel
from llmctl.planner.placement import Placer
from llmctl.types.model import Heads, Weights
from llmctl.types.plan import Want
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import GIB, desktop

CARD = desktop().accelerators[0]
SHAPE = shape_of("llama-3.1-8b")
WEIGHTS = Weights(4 * GIB, GIB // 2, 0, {"Q4_K": 4 * GIB}, exact=True)


@pytest.mark.parametrize(
    ("backend", "heads", "covered"),
    [
        ("CUDA", (128, 128, 1), True),
        ("CUDA", (64, 64, 4), True),
        ("CUDA", (192, 128, 1), False),
        ("CUDA", (192, 128, 4), False),
        ("CUDA", (192, 128, 16), True),
        ("CUDA", (160, 160, 4), False),
        ("CUDA", (96, 64, 40), False),
        ("CUDA", (32, 32, 4), False),
        ("CUDA", (576, 512, 128), True),
        ("CUDA", (576, 512, 1), False),
        ("CUDA", (320, 256, 32), True),
        ("CUDA", (320, 256, 20), False),
        ("ROCm", (32, 32, 4), False),
        ("Vulkan", (160, 160, 4), True),
        ("Vulkan", (100, 100, 4), False),
        ("metal", (192, 128, 1), True),
        ("metal", (160, 160, 1), False),
        ("metal", (128, 192, 1), False),
        ("SYCL", (192, 128, 16), False),
        ("OpenCL", (192, 128, 1), True),
        ("CANN", (128, 128, 4), False),  # its rule isn't known here
        (None, (128, 128, 4), True),
        (None, (192, 128, 1), False),
    ],
)
def test_kernels(backend: str | None, heads: tuple[int, int, int], covered: bool) -> None:
    shape = replace(SHAPE, heads=(Heads(128, 128, 4), Heads(*heads)) if covered else (Heads(*heads),))
    assert has_kernel(replace(CARD, engine_backend=backend), shape) is covered


def test_one_kind_of_heads_without_a_kernel_is_enough() -> None:
    assert not has_kernel(CARD, replace(SHAPE, heads=(Heads(128, 128, 4), Heads(32, 32, 4))))
    assert has_kernel(CARD, replace(SHAPE, heads=()))  # not known


@pytest.mark.parametrize(
    ("name", "flashes"), [("llama-3.1-8b", True), ("deepseek-v2-lite", False), ("deepseek-v2-lite-mla", True)]
)
def test_what_is_planned(name: str, flashes: bool) -> None:
    placer = Placer(desktop(), shape_of(name), WEIGHTS)
    planned = configure(placer, Want(), (4096,), lambda _: None).configuration
    assert planned.gpu_layers == placer.height
    assert (planned.flash_attention, planned.kv_type) == (flashes, "f16")
    asked = configure(placer, Want(flash_attention=True), (4096,), lambda _: None).configuration
    assert asked.flash_attention


def test_a_cache_is_not_quantized_unasked_where_there_is_no_kernel() -> None:
    shape = shape_of("deepseek-v2-lite")
    for free_gib in (4.8, 5.2, 6, 8):
        planned = configure(Placer(desktop(free_gib), shape, WEIGHTS), Want(), (16384,), lambda _: None).configuration
        assert planned.gpu_layers == 0 or not planned.flash_attention
