"""Tensors that each architecture's graph keeps alive beyond the minimum; see ``llmctl.planner.compute``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from llmctl.types.model import Shape


class MaskStays(StrEnum):
    """Whether the mask still has its place in memory when the logits are made. ``IF_SMALL``: a mask smaller than a row
    of the embedding's width keeps it."""

    NEVER = "never"
    IF_SMALL = "if_small"
    ALWAYS = "always"


class Graph(Struct, frozen=True):
    """Tensors that an architecture's graph keeps alive beyond the minimum.

    ``beside`` rows of the embedding's width stay beside the logits and the scores, more than all graphs have there.
    With ``experts_stay`` the outputs of the used experts wait for the shared expert's. Not ``gated``: the feed-forward
    network has one row, not three; ``widths`` rows of the embedding's width are beside it. With ``two_masks`` a model
    that keeps no cache has one for its windows, too. ``flash``: whether llama.cpp has flash attention for it. What only
    ``embeds`` attends to the tokens of a batch alone, though it has a cache, and makes no logits. With a ``bias`` for
    each pair of tokens (T5) there are three rows of scores at once, and no flash attention. So many ``clamped_logits``
    are put into a second row of all logits (those of the tokens that stand for images).
    """

    beside: int = 2
    mask_stays: MaskStays = MaskStays.ALWAYS
    experts_stay: bool = False
    gated: bool = True
    widths: int = 4
    two_masks: bool = False
    flash: bool = True
    embeds: bool = False
    bias: bool = False
    clamped_logits: int = 0


LEAN = Graph(0, MaskStays.NEVER)
GRAPHS: Mapping[str, Graph] = {
    **dict.fromkeys(
        (
            *("arcee", "baichuan", "chatglm", "cohere2", "command-r", "dbrx", "deci", "dream", "exaone", "exaone4"),
            *("gemma", "gemma2", "gemma3", "glm4", "granite", "granite_swa", "granitemoe", "grovemoe"),
            *("hunyuan-dense", "hunyuan_vl", "internlm2", "llada", "llada-moe", "llama", "maple", "mimo2"),
            *("minicpm", "minimax-m2"),
            *("mistral3", "olmo2", "olmoe", "pangu-embedded", "phimoe", "qwen2", "qwen2vl", "qwen3", "qwen3moe"),
            *("refact", "rnd1", "rwkv6", "seed_oss", "smallthinker", "smollm3", "spark2_5", "xverse"),
        ),
        LEAN,
    ),
    **dict.fromkeys(("apertus", "falcon", "gptneox", "nomic-bert-moe", "phi2"), Graph(0, MaskStays.NEVER, gated=False)),
    **dict.fromkeys(
        (
            *("arwkv7", "hrm_text", "jais", "jais2", "mamba", "mamba2", "minicpm3", "muse-glimmer", "olmo"),
            *("orion", "qwen", "rwkv7"),
            "stablelm",
        ),
        Graph(1, MaskStays.NEVER),
    ),
    **dict.fromkeys(
        ("bloom", "codeshell", "gpt2", "mpt", "nemotron", "starcoder", "starcoder2"),
        Graph(1, MaskStays.NEVER, gated=False),
    ),
    **dict.fromkeys(("minimax-01", "qwen3vlmoe", "qwen4exp"), Graph(4, MaskStays.NEVER)),
    **dict.fromkeys(("mellum", "plamo2", "plamo3"), Graph(0, MaskStays.IF_SMALL)),
    **dict.fromkeys(
        ("falcon-h1", "gemma3n", "gpt-oss", "lfm2", "lfm2moe", "maincoder", "nemotron_h", "talkie"),
        Graph(1, MaskStays.IF_SMALL),
    ),
    **dict.fromkeys(
        (
            *("bailingmoe3", "exaone-moe", "glm4moe", "granitehybrid", "jamba", "laguna", "qwen35moe"),
            "step35",
        ),
        Graph(2, MaskStays.IF_SMALL),
    ),
    **dict.fromkeys(("bitnet", "llama4"), Graph(3, MaskStays.IF_SMALL)),
    "nemotron_h_moe": Graph(3, MaskStays.IF_SMALL, gated=False),
    **dict.fromkeys(("arctic", "ernie4_5", "paddleocr"), Graph(4, MaskStays.IF_SMALL)),
    **dict.fromkeys(
        (
            *("afmoe", "bailingmoe", "deepseek", "deepseek2", "deepseek2-ocr", "dots3note", "ernie4_5-moe"),
            *("hunyuan-moe", "mistral4"),
            "qwen2moe",
        ),
        Graph(2, MaskStays.IF_SMALL, experts_stay=True),
    ),
    "minimax-m3": Graph(experts_stay=True),
    **dict.fromkeys(("bert", "jina-bert-v3"), Graph(0, MaskStays.NEVER, gated=False, widths=3)),
    "chameleon": Graph(clamped_logits=8192),
    "nomic-bert": Graph(1, widths=2),
    "gemma-embedding": Graph(0, widths=3, two_masks=True),
    **dict.fromkeys(("gemma4", "openelm", "qwen35", "qwen3next"), Graph(1)),
    "grok": Graph(0, MaskStays.NEVER, flash=False),
    "jina-bert-v2": Graph(1, widths=3),
    "llama-embed": Graph(0, MaskStays.NEVER, embeds=True),
    "modern-bert": Graph(widths=3, two_masks=True),
    "phi3": Graph(0),
    "qwen3vl": Graph(4),
    "t5": Graph(bias=True),
    "t5encoder": Graph(bias=True, embeds=True),
}
USUAL = Graph()  # of other architectures: two rows beside, and a mask that stays, more than most have


def graph_of(shape: Shape) -> Graph:
    """The graph of a model's architecture. Granite's hybrids have one name with experts and without."""
    if shape.architecture == "granitehybrid" and not shape.n_expert:
        return LEAN
    return GRAPHS.get(shape.architecture, USUAL)
