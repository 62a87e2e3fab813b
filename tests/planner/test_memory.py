"""Cache, state and weights against llama.cpp's own figures."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner.compute import output_bytes
from llmctl.planner.memory import (
    MARGIN_BYTES,
    element_bytes,
    head_bytes,
    kv_bytes,
    margin_bytes,
    quantizable,
    repacked_types,
    stack,
    state_bytes,
)
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Cpu
from llmctl.types.model import Weights
from llmctl.types.plan import Configuration
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import EPYC, GIB, LAPTOP, desktop, mac, of, placed

MIB = 1 << 20

# "size = ... MiB" of every llama_kv_cache and of llama_memory_recurrent in llama.cpp 0c1e570's log, for settings of
# context, type, flash attention, swa_full and sequences.
LOGGED = [
    ("llama-3.1-8b", Configuration(8192), 1024.0, 0),
    ("llama-3.1-8b", Configuration(8192, sequences=4), 4096.0, 0),
    ("llama-3.1-8b", Configuration(8192, "q8_0", True), 544.0, 0),
    ("llama-3.1-8b", Configuration(8192, "q4_0", True), 288.0, 0),
    ("llama-3.1-8b", Configuration(5000), 640.0, 0),
    ("gemma3-1b", Configuration(8192), 54.0, 0),
    ("gemma3-1b", Configuration(8192, sequences=16), 864.0, 0),
    ("gemma3-1b", Configuration(8192, swa_full=True), 208.0, 0),
    ("gemma3-1b", Configuration(8192, swa_full=True, sequences=4), 832.0, 0),
    ("gemma3-1b", Configuration(8192, "q8_0", True), 28.69, 0),
    ("gpt-oss-20b", Configuration(8192), 210.0, 0),
    ("gpt-oss-20b", Configuration(8192, swa_full=True), 384.0, 0),
    ("gpt-oss-20b", Configuration(8192, "q4_0", True), 59.06, 0),
    ("gemma4-31b", Configuration(4096), 1680.0, 0),
    ("gemma4-e4b", Configuration(4096), 124.0, 0),
    ("deepseek-v2-lite", Configuration(4096), 1080.0, 0),
    ("deepseek-v2-lite-mla", Configuration(8192), 243.0, 0),
    ("deepseek-v2-lite-mla", Configuration(8192, "q8_0", True), 129.09, 0),
    ("granite-h-tiny", Configuration(8192), 64.0, 55.37),
    ("granite-h-tiny", Configuration(8192, sequences=4), 256.0, 221.48),
    ("qwen35-9b", Configuration(8192), 256.0, 50.25),
    ("qwen35-9b", Configuration(8192, "q8_0", True, sequences=4), 4 * 136.0, 201.0),
    ("falcon-h1-1.5b", Configuration(8192), 192.0, 72.98),
    ("lfm2-1.2b", Configuration(8192), 96.0, 0.16),
    ("mamba2-2.7b", Configuration(8192, sequences=16), 0, 2623.0),
    ("rwkv7-1.5b", Configuration(4096), 0, 12.38),
    ("bge-m3", Configuration(8192), 0, 0),
    ("llada-8b", Configuration(4096), 0, 0),
    ("nanbeige4.2-3b", Configuration(4096, flash_attention=True), 352.0, 0),
    ("nanbeige4.2-3b", Configuration(131072), 11264.0, 0),
    ("nemotron-ultra-253b", Configuration(4096, flash_attention=True), 1024.0, 0),
    ("nemotron-ultra-253b", Configuration(131072), 57856.0, 0),
    ("nemotron-51b", Configuration(4096, flash_attention=True), 1088.0, 0),
    ("nemotron-51b", Configuration(131072), 37888.0, 0),
    ("deepseek-v4-flash", Configuration(4096, flash_attention=True), 64.25, 11.64),
    ("deepseek-v4-flash", Configuration(131072), 893.0, 11.64),
    ("deepseek-v3.2", Configuration(4096, flash_attention=True), 335.5, 0),
    ("deepseek-v3.2", Configuration(131072), 10736.0, 0),
    ("glm-5.1", Configuration(4096, flash_attention=True), 429.0, 0),
    ("glm-5.1", Configuration(131072), 13728.0, 0),
    ("minimax-m3", Configuration(4096, flash_attention=True), 594.0, 0),
    ("minimax-m3", Configuration(131072), 19008.0, 0),
    ("hrm-text-1b", Configuration(4096, flash_attention=True), 768.0, 0),
    ("hrm-text-1b", Configuration(131072), 24576.0, 0),
    ("hy3", Configuration(4096, flash_attention=True), 1280.0, 0),
    ("hy3", Configuration(131072), 40960.0, 0),
    ("glm4.5-air-mtp", Configuration(4096, flash_attention=True), 736.0, 0),
    ("glm4.5-air-mtp", Configuration(131072), 23552.0, 0),
]


@pytest.mark.parametrize(("name", "settings", "kv_mib", "state_mib"), LOGGED)
def test_cache_and_state_are_those_of_the_log(
    name: str, settings: Configuration, kv_mib: float, state_mib: float
) -> None:
    shape = shape_of(name)
    assert kv_bytes(shape, settings) == pytest.approx(kv_mib * MIB, abs=0.006 * MIB)
    assert state_bytes(shape, settings) == pytest.approx(state_mib * MIB, abs=0.006 * MIB)
    layers = stack(shape, Weights(0, 0, 0, {}, exact=True), settings)
    assert (layers.kv[-1], layers.state[-1]) == (kv_bytes(shape, settings), state_bytes(shape, settings))


def test_the_output_is_a_row_of_logits() -> None:
    assert output_bytes(shape_of("llama-3.1-8b"), Configuration(512)) == pytest.approx(0.49 * MIB, rel=0.01)


def test_a_quantized_cache_is_whole_blocks() -> None:
    assert [element_bytes(name, 64) for name in ("f16", "q8_0", "q4_0")] == [128, 68, 36]
    assert quantizable(shape_of("llama-3.1-8b")) and not quantizable(shape_of("phi2"))  # heads of 80


@pytest.mark.parametrize(
    ("features", "repacked"),
    [
        ((), set()),
        (("AVX2",), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
        (("AVX2", "AVX512"), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}),
        (("NEON",), set()),
        (("NEON", "DOTPROD"), {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
    ],
)
def test_types_that_are_repacked(features: tuple[str, ...], repacked: set[str]) -> None:
    machine = replace(LAPTOP, cpu=Cpu("x", "x", 4, 4, 4, features))
    assert repacked_types(machine) == repacked


def test_what_was_measured_here_stands_above_the_table() -> None:
    layouts = (("Q4_K", False), ("Q6_K", False), ("Q6_K", True))
    kernels = Kernels(tuple(MatrixRate(name, repacked, 4, 1e9, 1e9) for name, repacked in layouts))
    assert repacked_types(replace(LAPTOP, kernels=kernels)) == {"Q4_0", "Q6_K", "IQ4_NL", "MXFP4"}


def test_beside_a_card_nothing_is_repacked_beside_metal_it_is() -> None:
    assert repacked_types(desktop()) == set()
    assert "Q8_0" in repacked_types(mac())
    unusable = replace(desktop().accelerators[0], usable=False)
    assert repacked_types(replace(desktop(), accelerators=(unusable,))) == repacked_types(LAPTOP) != set()


GEMMA = Weights(
    246_587_904,
    0,
    0,
    {"Q8_0": 179_824_640, "Q5_0": 43_591_680, "Q4_K": 13_271_040, "Q6_K": 9_676_800},
    exact=True,
)


def test_the_repacked_copy_is_that_of_the_log() -> None:
    """gemma-3-270m Q4_K_M: CPU_REPACK 12.66 MiB, which is its Q4_K weights; the file stays mapped beside it."""
    memory = placed(EPYC, shape_of("gemma3-270m"), GEMMA, 2048).memory
    (row,) = memory.by_device
    assert row.repacked_bytes == pytest.approx(12.66 * MIB, rel=0.001)
    assert row.weights_bytes + row.repacked_bytes == GEMMA.total_bytes == memory.mapped_bytes
    anonymous = row.repacked_bytes + row.kv_bytes + row.state_bytes + row.compute_bytes
    assert memory.must_fit_bytes == anonymous
    assert memory.must_fit_bytes == pytest.approx((12.66 + 21 + 514.5 + 1) * MIB, rel=0.001)


def test_what_is_touched_leaves_out_the_logits_of_a_batch() -> None:
    """gemma-3-270m: 512 rows of 262,144 logits are reserved; three rows of the feed-forward network's 2,048, four of
    640 and a mask for 2,048 and 1,024 cells are written to, and the vocabulary."""
    memory = placed(EPYC, shape_of("gemma3-270m"), GEMMA, 2048).memory
    (row,) = memory.by_device
    scores = 512 * 4 * (4 * 2048 + 2048 + 1024 + 3 * 640 + 2 * 1024 + 2 * 256)
    assert memory.touched_bytes == row.repacked_bytes + row.kv_bytes + scores + 160 * 262_144
    assert memory.must_fit_bytes == row.repacked_bytes + row.kv_bytes + row.compute_bytes


def test_a_vocabulary_must_fit_where_nothing_is_only_reserved() -> None:
    """bge-m3 has 250,002 tokens and makes no logits; its buffer is less than its vocabulary."""
    shape = replace(shape_of("bge-m3"), n_merge=1000)
    memory = placed(EPYC, shape, Weights(600_000_000, 0, 0, {"F16": 600_000_000}, exact=True), 512).memory
    (row,) = memory.by_device
    anonymous = row.total_bytes - row.weights_bytes
    assert memory.must_fit_bytes == memory.touched_bytes >= anonymous
    assert memory.must_fit_bytes == anonymous + 160 * 250_002 + 200 * 1000


def test_the_head_is_found_by_its_size() -> None:
    """Llama 3.1 8B Q4_K_M: its header has an output head of 430,940,160 bytes."""
    (candidate,) = of("llama-3.1-8b-instruct:Q4_K_M")
    assert head_bytes(candidate.model.shape, candidate.artifact.weights) == pytest.approx(430_940_160, rel=0.35)


def test_what_a_header_says_of_the_layers_is_the_truth() -> None:
    """Three layers of 10, 20 and 30 of which 4, 5 and 6 are experts, a table of 7 and a head of 13."""
    shape = replace(shape_of("mixtral"), n_layer=3, layers=(), kv_width=300)
    weights = Weights(80, 7, 15, {"Q8_0": 80}, True, layer_bytes=(10, 20, 30), layer_expert_bytes=(4, 5, 6))
    made = stack(shape, weights, Configuration(256))
    assert head_bytes(shape, weights) == 13
    assert made.weights == [0, 10, 30, 60, 73]
    assert made.experts == [0, 4, 9, 15, 15]
    assert made.kv == [0, 51_200, 102_400, 153_600, 153_600]


def test_the_margin_is_stated() -> None:
    assert margin_bytes(1 * GIB) == MARGIN_BYTES == 512 * MIB
    assert margin_bytes(100 * GIB) == 5 * GIB
