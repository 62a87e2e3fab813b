"""The compute buffer of a card that experts on the CPU are copied to, against llama.cpp's own."""

from __future__ import annotations

from functools import cache

import pytest

from llmctl.gguf.shape import shape, weights
from llmctl.planner.compute import Copied, compute_bytes
from llmctl.planner.placement import Placer
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Configuration
from tests.fakes.real_shapes import shape_of
from tests.fakes.real_tensors import header
from tests.planner.machines import with_cards

MIB = 1 << 20

# Model and quantization; context, layers with experts on the CPU, flash attention; MiB of llama.cpp 0c1e570 on one
# device that computes nothing (tests/fakes/devices.py), micro-batches of 512.
LOGGED = (
    ("qwen35moe-122b", "Q4_K_M", 4096, 24, True, 1293),
    ("qwen35moe-122b", "Q4_K_M", 32768, 24, True, 1321),
    ("qwen35moe-122b", "Q4_K_M", 131072, 48, True, 1417),
    ("qwen35moe-122b", "Q4_K_M", 4096, 24, False, 1299),
    ("qwen35moe-122b", "Q4_K_M", 32768, 1, False, 2773),
    ("qwen35moe-122b", "Q4_K_M", 131072, 48, False, 9109),
    ("qwen35moe-35b", "Q8_0", 8192, 34, True, 569),
    ("qwen35moe-35b", "Q4_K_M", 131072, 20, True, 565),
    ("qwen35moe-35b", "Q4_K_M", 131072, 1, False, 4581),
    ("qwen3next-80b", "Q4_0", 4096, 24, True, 600),
    ("qwen3next-80b", "Q4_0", 131072, 48, True, 724),
    ("qwen3next-80b", "Q4_0", 32768, 1, False, 1398),
    ("llama4-scout", "Q4_K_M", 32768, 24, True, 1137),
    ("llama4-scout", "Q4_0", 131072, 48, False, 10917),
    ("gemma4-26b", "Q4_0", 32768, 30, False, 1260),
    ("gemma4-26b", "Q4_0", 131072, 30, True, 568),
    ("gemma4-26b", "Q8_0", 32768, 30, True, 835),
    ("gemma4-26b", "Q8_0", 4096, 30, False, 815),
    ("gemma4-26b", "Q8_0", 4096, 30, True, 557),
    ("llama4-scout", "Q4_K_M", 4096, 24, False, 1110),
    ("llama4-scout", "Q4_K_M", 4096, 24, True, 585),
    # Without a mask behind a copy: attention in the first layer, or biases in between.
    ("mixtral", "Q4_0", 8192, 27, True, 396),
    ("glm4moe-air", "Q8_0", 8192, 43, True, 882),
    ("gpt-oss-20b", "Q4_0", 8192, 17, True, 405),
    ("step35", "Q8_0", 8192, 41, True, 1640),
)


@pytest.mark.parametrize(("name", "quant", "context", "on_cpu", "flash", "mib"), LOGGED)
def test_it_is_what_llama_cpp_allocates(
    name: str, quant: str, context: int, on_cpu: int, flash: bool, mib: int
) -> None:
    figures, of_file = _file(name, quant)
    placer = Placer(with_cards(200, memory_gib=200), figures, of_file)
    configuration = Configuration(
        context, flash_attention=flash, gpu_layers=placer.height, cpu_expert_layers=on_cpu, ubatch=512
    )
    planned = placer.place(configuration).memory.by_device[1].compute_bytes / MIB
    assert mib * 0.98 <= planned <= mib * 1.2


@cache
def _file(name: str, quant: str) -> tuple[Shape, Weights]:
    table = header(name, quant)
    return shape(table), weights(table)


@pytest.mark.parametrize(("flash", "mib"), [(True, 6205), (False, 6218)])
def test_small_masks_find_no_room_where_the_first_layer_has_no_experts(flash: bool, mib: int) -> None:
    """EXAONE MoE in 16 bits, matrices of 3 GiB, experts of more layers on the CPU than before the first full one."""
    settings = Configuration(4096, flash_attention=flash)
    matrix = 3072 * MIB
    planned = compute_bytes(shape_of("exaone-moe"), settings, copied=Copied(matrix, matrix, after_mask=True))
    assert mib * 0.99 <= planned / MIB <= mib * 1.01
    from_first = Copied(matrix, matrix, after_mask=True, from_first=True)
    assert compute_bytes(shape_of("exaone-moe"), settings, copied=from_first) < 0.6 * planned
