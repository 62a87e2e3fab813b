"""Cache, state and compute of models of every kind against what llama.cpp says of the same figures."""

from __future__ import annotations

from itertools import product
from statistics import median

import pytest

from llmctl.planner.compute import compute_bytes, output_bytes
from llmctl.planner.memory import kv_bytes, state_bytes
from llmctl.types.plan import Configuration
from tests.fakes.real_shapes import shape_of

MIB = 1 << 20
CASES = tuple(product((4096, 131_072), (False, True)))  # context, flash attention
# MiB of cache with state, and of compute with output, for each of the cases, by the log of llama.cpp 0c1e570
# (llama-cpp-python 0.3.36, CPU) with ``no_alloc``; today's engine: tests/bench/memory_against_engine.py
# fmt: off
ENGINE = {
    "nanbeige4.2-3b": ((352.0, 359.14), (352.0, 337.13), (11264.0, 6432.64), (11264.0, 337.13)),
    "nemotron-ultra-253b": ((1808.0, 1196.5), (1024.0, 444.5), (57856.0, 33188.5), (32768.0, 568.5)),
    "deepseek-v3.2": ((335.5, 1688.57), (335.5, 660.57), (10736.0, 34300.57), (10736.0, 1164.57)),
    "jais-13b": ((3200.0, 408.33), (3200.0, 196.32), (102400.0, 10576.33), (102400.0, 248.33)),
    "flan-t5-xl": ((768.0, 813.14), (768.0, 816.64), (24576.0, 25117.14), (24576.0, 25492.64)),
    "ernie4.5-300b": ((864.0, 604.4), (864.0, 364.4), (27648.0, 16724.4), (27648.0, 488.4)),
    "glm4.5-air-mtp": ((736.0, 860.59), (736.0, 332.59), (23552.0, 24916.59), (23552.0, 320.58)),
    "nemotron-51b": ((1184.0, 604.5), (1088.0, 282.99), (37888.0, 16724.5), (34816.0, 360.5)),
    "nemotron-super-49b": ((1048.0, 604.5), (816.0, 282.99), (33536.0, 16724.5), (26112.0, 360.5)),
    "glm-5.1": ((429.0, 1052.67), (429.0, 536.67), (13728.0, 17936.67), (13728.0, 1040.67)),
    "kimi-k3": ((408.52, 1190.65), (408.52, 418.65), (2919.52, 25374.65), (2919.52, 542.65)),
    "hy4": ((304.0, 1036.59), (304.0, 536.61), (9728.0, 17928.61), (9728.0, 1032.61)),
    "qwen4exp": ((257.06, 501.95), (257.06, 501.95), (3605.06, 8579.03), (3605.06, 501.95)),
    "dots3note": ((106.5, 429.66), (106.5, 321.58), (2152.5, 9377.66), (2152.5, 672.66)),
    "minimax-m3": ((594.0, 619.52), (594.0, 492.05), (19008.0, 16739.52), (19008.0, 2513.78)),
    "deepseek-v4-flash": ((64.25, 490.62), (64.25, 269.0), (893.0, 4617.12), (893.0, 413.62)),
    "hy3": ((1280.0, 588.47), (1280.0, 272.47), (40960.0, 16708.47), (40960.0, 304.47)),
    "codestral-mamba-7b": ((263.5, 116.61), (263.5, 116.61), (263.5, 116.61), (263.5, 116.61)),
    "llama-embed-8b": ((512.0, 117.5), (512.0, 117.0), (16384.0, 117.5), (16384.0, 117.0)),
    "llama-embed-1b": ((128.0, 65.5), (128.0, 65.0), (4096.0, 65.5), (4096.0, 65.0)),
    "t5-encoder-xxl": ((1536.0, 234.12), (1536.0, 233.62), (49152.0, 234.12), (49152.0, 233.62)),
    "flan-t5-base": ((144.0, 315.64), (144.0, 314.14), (4608.0, 9739.64), (4608.0, 9800.14)),
    "step35-mtp": ((324.0, 594.5), (324.0, 281.26), (6276.0, 16714.5), (6276.0, 293.51)),
    "laguna-m": ((336.0, 450.39), (336.0, 225.4), (6288.0, 12602.39), (6288.0, 279.4)),
    "nemotron3-super": ((180.57, 299.51), (180.57, 292.51), (800.57, 8483.51), (800.57, 328.01)),
    "qwen35-9b-mtp": ((178.25, 513.97), (178.25, 513.97), (4146.25, 4404.97), (4146.25, 509.95)),
    "mimo2-flash-mtp": ((272.25, 602.09), (236.25, 314.58), (4178.25, 16722.09), (3026.25, 314.58)),
    "bailingmoe2-100b": ((256.0, 341.61), (256.0, 343.61), (8192.0, 8482.61), (8192.0, 444.62)),
    "hrm-text-1b": ((768.0, 137.25), (768.0, 134.25), (24576.0, 3352.26), (24576.0, 164.26)),
    "exaone-moe-236b": ((300.0, 610.1), (300.0, 353.36), (6252.0, 16730.1), (6252.0, 373.36)),
    "kimi-linear-mtpless": ((71.95, 362.63), (71.95, 342.63), (908.95, 8674.63), (908.95, 334.12)),
    "glm5-next": ((199.59, 558.72), (199.59, 323.09), (2803.59, 13387.06), (2803.59, 585.06)),
    "bailingmoe3": ((104.5, 376.61), (104.5, 343.61), (1220.5, 8688.61), (1220.5, 331.6)),
    "minimax-01": ((440.0, 649.15), (440.0, 415.51), (5400.0, 16769.15), (5400.0, 445.15)),
    "gemma3-4b": ((254.0, 523.13), (254.0, 528.13), (2734.0, 2339.01), (2734.0, 523.13)),
    "talkie": ((768.0, 168.26), (768.0, 144.26), (24576.0, 4384.26), (24576.0, 196.26)),
    "plamo3": ((172.0, 297.39), (172.0, 211.69), (1164.0, 8481.39), (1164.0, 238.9)),
    "mellum": ((119.0, 268.5), (119.0, 264.5), (1855.0, 4379.51), (1855.0, 264.5)),
    "maple": ((340.0, 315.51), (340.0, 272.5), (5300.0, 8499.51), (5300.0, 298.02)),
    "cohere2moe": ((512.0, 553.01), (512.0, 545.02), (4528.0, 8506.01), (4528.0, 669.52)),
    "muse-glimmer": ((272.0, 315.51), (272.0, 272.5), (4240.0, 8499.51), (4240.0, 280.5)),
    "spark2.5": ((340.0, 315.51), (340.0, 272.5), (5300.0, 8499.51), (5300.0, 272.5)),
    "granite-swa": ((340.0, 315.39), (340.0, 212.38), (5300.0, 8499.39), (5300.0, 236.9)),
}
# fmt: on
TOO_LOW, TOO_HIGH = -0.015, 0.18  # the most with sparse attention at short contexts


def shares(name: str) -> list[float]:
    """How far the sum is off the engine's, in each case."""
    shape, rows = shape_of(name), []
    for (context, flash), (cached, computed) in zip(CASES, ENGINE[name], strict=True):
        settings = Configuration(context, flash_attention=flash)
        ours = kv_bytes(shape, settings) + state_bytes(shape, settings)
        ours += compute_bytes(shape, settings) + output_bytes(shape, settings)
        rows.append(ours / ((cached + computed) * MIB) - 1)
    return rows


@pytest.mark.parametrize("name", ENGINE)
def test_all_of_it_is_what_the_engine_says(name: str) -> None:
    assert min(shares(name)) >= TOO_LOW
    assert max(shares(name)) <= TOO_HIGH


def test_over_all_kinds_it_is_nearly_exact() -> None:
    every = [share for name in ENGINE for share in shares(name)]
    assert len({shape_of(name).architecture for name in ENGINE}) >= 30
    assert median(map(abs, every)) <= 0.005
    assert sorted(map(abs, every))[len(every) * 9 // 10] <= 0.045
