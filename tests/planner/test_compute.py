"""The compute buffer against llama.cpp's own."""

from __future__ import annotations

from itertools import product
from statistics import median

import pytest
from msgspec.structs import replace

from llmctl.planner.compute import (
    compute_bytes,
    grown_output_bytes,
    input_bytes,
    output_bytes,
    padded_cells,
    touched_bytes,
)
from llmctl.planner.graphs import GRAPHS, Graph, graph_of
from llmctl.types.plan import Configuration
from tests.fakes.real_shapes import models, shape_of

MIB = 1 << 20

CASES = tuple(product((128, 512), (False, True), (512, 4096, 8192, 32768)))  # ubatch, flash attention, context
# "compute buffer size" in MiB of llama.cpp 0c1e570 (llama-cpp-python 0.3.36, CPU) for each of the cases; the whole
# table, and today's engine: tests/bench/memory_against_engine.py
# fmt: off
LOGGED = {
    "llama-3.1-8b": (66.63, 77.0, 143.0, 539.0, 66.63, 66.63, 66.63, 66.63,
                     266.5, 308.01, 572.01, 2156.01, 266.5, 266.5, 266.5, 266.5),
    "llama-2-7b": (26.38, 80.0, 146.0, 542.0, 24.25, 25.13, 26.13, 32.13,
                   105.51, 320.01, 584.01, 2168.01, 97.01, 100.51, 104.51, 128.51),
    "qwen3-4b": (76.69, 76.69, 140.75, 536.75, 76.69, 76.69, 76.69, 76.69,
                 306.75, 306.75, 563.01, 2147.01, 306.75, 306.75, 306.75, 306.75),
    "qwen3moe-30b": (76.19, 76.19, 139.5, 535.5, 76.19, 76.19, 76.19, 76.19,
                     304.75, 304.75, 558.01, 2142.01, 304.75, 304.75, 304.75, 304.75),
    "mixtral": (51.25, 77.0, 143.0, 539.0, 50.13, 51.0, 52.0, 58.0,
                205.01, 308.01, 572.01, 2156.01, 200.51, 204.01, 208.01, 232.01),
    "gemma3-1b": (129.69, 129.69, 129.13, 139.81, 129.13, 129.13, 129.13, 129.13,
                  518.75, 518.75, 516.5, 559.25, 516.5, 516.5, 516.5, 516.5),
    "gemma4-e4b": (131.75, 131.75, 131.75, 160.75, 133.26, 134.19, 132.69, 141.19,
                   527.0, 527.0, 548.02, 643.52, 533.02, 527.02, 531.02, 565.02),
    "phi4-mini": (104.94, 100.69, 108.5, 408.5, 100.82, 101.69, 102.69, 108.69,
                  419.76, 402.75, 434.01, 1634.01, 403.26, 406.76, 410.76, 434.76),
    "granite4-3b": (51.5, 88.75, 170.75, 662.75, 51.5, 51.5, 51.5, 51.5,
                    206.0, 355.01, 683.01, 2651.01, 206.0, 206.0, 206.0, 206.0),
    "granite-h-tiny": (52.0, 52.0, 56.25, 212.25, 52.13, 52.0, 52.0, 52.0,
                       208.0, 208.0, 225.01, 849.01, 208.51, 208.0, 208.0, 208.0),
    "gpt-oss-20b": (103.78, 139.35, 269.35, 1049.35, 102.6, 103.47, 108.69, 102.41,
                    432.51, 558.39, 1078.39, 4198.39, 410.65, 414.4, 435.27, 409.63),
    "deepseek-v2-lite": (60.09, 60.09, 80.1, 284.1, 60.13, 60.1, 53.0, 53.0,
                         240.38, 240.38, 320.38, 1136.38, 240.51, 240.39, 212.0, 212.0),
    "deepseek-v2-lite-mla": (60.25, 60.09, 89.5, 318.6, 53.0, 60.09, 60.09, 60.09,
                             241.01, 240.38, 330.38, 1174.01, 212.0, 240.38, 240.38, 240.38),
    "lfm2-1.2b": (35.75, 71.5, 137.5, 533.5, 35.13, 36.0, 34.0, 34.0,
                  143.01, 286.01, 550.01, 2134.01, 140.51, 144.01, 136.0, 136.0),
    "qwen35-9b": (128.5, 128.25, 127.25, 285.0, 127.38, 128.25, 127.25, 127.25,
                  514.02, 513.02, 509.0, 1140.02, 509.52, 513.02, 509.02, 509.0),
    "qwen35moe-35b": (125.0, 125.75, 126.25, 282.5, 125.38, 125.25, 124.25, 124.25,
                      500.02, 503.02, 505.0, 1130.02, 501.52, 501.02, 497.0, 497.0),
    "mamba2-2.7b": (28.31, 28.31, 28.31, 28.31, 28.31, 28.31, 28.31, 28.31,
                    113.22, 113.22, 113.22, 113.22, 113.22, 113.22, 113.22, 113.22),
    "ernie4_5-21b": (63.75, 63.09, 97.1, 349.1, 63.13, 64.0, 63.75, 63.09,
                     255.01, 252.38, 388.38, 1396.38, 252.51, 256.01, 255.01, 252.38),
    "chameleon-7b": (70.28, 80.03, 146.03, 542.03, 68.16, 69.03, 70.03, 74.03,
                     281.04, 320.04, 584.04, 2168.04, 272.54, 276.04, 280.04, 296.04),
    "codeshell-7b": (40.25, 77.0, 143.0, 539.0, 40.25, 40.25, 40.25, 40.25,
                     161.0, 308.01, 572.01, 2156.01, 161.0, 161.0, 161.0, 161.0),
    "deepseek-ocr": (69.47, 69.47, 65.0, 183.6, 69.5, 69.75, 69.47, 68.84,
                     277.88, 277.88, 260.0, 734.38, 278.01, 279.01, 277.88, 275.38),
}
# fmt: on


def off(name: str) -> list[float]:
    """How far ours is off the engine's, as a share, in each case."""
    ours = [
        compute_bytes(shape_of(name), Configuration(context, flash_attention=flash, ubatch=ubatch))
        for ubatch, flash, context in CASES
    ]
    return [own / (mib * MIB) - 1 for own, mib in zip(ours, LOGGED[name], strict=True)]


@pytest.mark.parametrize("name", LOGGED)
def test_the_buffer_is_that_of_the_log(name: str) -> None:
    shares = off(name)
    assert median(map(abs, shares)) <= 0.04
    assert min(shares) >= -0.08  # too little is worse than too much
    assert max(shares) <= 0.16


def test_over_all_of_them_it_is_nearly_exact() -> None:
    shares = sorted(share for name in LOGGED for share in off(name))
    assert len({shape_of(name).architecture for name in LOGGED}) >= 12
    assert median(map(abs, shares)) <= 0.005
    assert shares[len(shares) // 20] >= -0.02
    assert shares[-len(shares) // 20] <= 0.08


# By the same log, 512 tokens at once with flash attention, for 131,072 and 262,144 tokens of context.
LONG = {
    "qwen3moe-30b": (304.75, 344.01),
    "glm4moe-air": (320.0, 426.01),
    "granite-h-tiny": (208.0, 307.01),
    "granite-h-small": (278.01, 406.01),
    "step35": (293.02, 421.02),
    "deepseek-v3": (536.01, 664.01),
    "glm47-flash": (334.88, 338.01),
    "deepseek-v2-lite-mla": (240.38, 336.13),
}


@pytest.mark.parametrize(("name", "logged"), LONG.items(), ids=list(LONG))
def test_at_long_contexts_a_layer_is_the_largest_moment(name: str, logged: tuple[float, float]) -> None:
    """The mask, with it what the used experts put out, or with latent attention the queries of all heads."""
    for context, mib in zip((131_072, 262_144), logged, strict=True):
        ours = compute_bytes(shape_of(name), Configuration(context, flash_attention=True))
        assert -0.01 <= ours / (mib * MIB) - 1 <= 0.075


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen35-9b", "gemma3-1b"])
def test_more_is_never_less(name: str) -> None:
    for flash in (False, True):
        by_context = [compute_bytes(shape_of(name), Configuration(size, "f16", flash)) for size in (512, 4096, 65536)]
        by_batch = [compute_bytes(shape_of(name), Configuration(8192, "f16", flash, ubatch=n)) for n in (64, 256, 1024)]
        assert by_context == sorted(by_context) and by_batch == sorted(by_batch)
        assert by_batch[0] < by_batch[1] < by_batch[2]


def test_flash_attention_needs_no_scores_and_grok_has_none() -> None:
    llama, grok = shape_of("llama-3.1-8b"), shape_of("grok1")
    without, with_it = Configuration(32768), Configuration(32768, flash_attention=True)
    assert compute_bytes(llama, with_it) < compute_bytes(llama, without) / 8
    assert compute_bytes(grok, with_it) == compute_bytes(grok, without)


def test_without_the_head_there_are_no_logits() -> None:
    """Llama 3.1 8B, 512 tokens at once: the scores of 512 cells, not 128,256 logits of four bytes."""
    shape, settings = shape_of("llama-3.1-8b"), Configuration(512)
    assert compute_bytes(shape, settings) == 512 * 4 * (128_256 + 2 * 4096)
    assert compute_bytes(shape, settings, head=False) == touched_bytes(shape, settings)
    assert touched_bytes(shape, settings) == 512 * 4 * (3 * 14336 + 4 * 4096 + 512)


def test_sequences_share_the_buffer_and_each_has_its_logits() -> None:
    shape = shape_of("qwen3-4b")
    single, four = Configuration(8192), Configuration(8192, sequences=4)
    assert compute_bytes(shape, four) == compute_bytes(shape, single)
    assert output_bytes(shape, four) == 4 * output_bytes(shape, single) == 4 * 4 * 151_936


def test_full_windows_have_a_mask_of_full_size() -> None:
    """Gemma 3 1B at 8,192 tokens: 516.5 MiB, and 538.01 with swa_full, whose scores are then the largest."""
    shape = shape_of("gemma3-27b")
    small, full = (input_bytes(shape, Configuration(8192, swa_full=swa_full)) for swa_full in (False, True))
    assert full - small == 512 * 4 * (8192 - 1536)


# MiB for 512 tokens, and for 2,048, without and with flash attention; by the same log.
ENCODERS = {
    "bge-m3": (29.01, 14.51, 320.02, 64.02),
    "nomic-embed": (23.51, 21.51, 244.02, 92.02),
    "embeddinggemma": (13.26, 12.26, 110.02, 61.02),
    "modern-bert": (26.01, 12.26, 272.02, 61.02),
    "jina-v3": (29.01, 14.51, 320.02, 64.02),
    "jina-bert-v2": (22.5, 23.0, 244.02, 98.02),
}


@pytest.mark.parametrize(("name", "logged"), ENCODERS.items(), ids=list(ENCODERS))
def test_an_encoder_has_no_logits_and_sees_its_batch_only(name: str, logged: tuple[float, ...]) -> None:
    shape = shape_of(name)
    for context in (2048, 8192):
        for at, (ubatch, flash) in enumerate(product((512, 2048), (False, True))):
            ours = compute_bytes(shape, Configuration(context, flash_attention=flash, ubatch=ubatch))
            assert ours == pytest.approx(logged[at] * MIB, rel=0.045)


@pytest.mark.parametrize("name", ["bge-m3", "qwen3-embedding"])
def test_a_pooled_text_has_a_row_of_logits_for_each_token(name: str) -> None:
    """As tests/engine/test_embedding.py measures it: whether or not there are logits."""
    shape = shape_of(name)
    short, long = Configuration(2048, ubatch=512), Configuration(2048, ubatch=2048)
    assert grown_output_bytes(shape, short) == 512 * 4 * ((shape.n_vocab or 0) + shape.n_embd)
    assert grown_output_bytes(shape, long) == 4 * grown_output_bytes(shape, short)
    assert (
        grown_output_bytes(replace(shape, pools=False), long) == output_bytes(shape, long) == 4 * (shape.n_vocab or 0)
    )
    assert touched_bytes(shape, long) > grown_output_bytes(shape, long)


def test_what_the_devices_are_given_lies_in_the_machines_memory() -> None:
    """Qwen3 4B at 8,192 tokens on a device that computes nothing: embeddings twice, the mask, places in the cache."""
    shape = shape_of("qwen3-4b")
    assert input_bytes(shape, Configuration(8192)) == pytest.approx(30.01 * MIB, rel=0.001)
    assert input_bytes(shape, Configuration(8192, flash_attention=True)) == pytest.approx(18.01 * MIB, rel=0.001)


def test_every_architecture_of_the_table_was_asked_about() -> None:
    asked = {metadata["general.architecture"] for metadata in models().values()}
    assert set(GRAPHS) <= asked
    assert graph_of(shape_of("dots1")) == Graph()  # what is not in the table has the most


def test_cells_come_in_256() -> None:
    assert [padded_cells(n) for n in (1, 256, 257, 4000)] == [256, 256, 512, 4096]
