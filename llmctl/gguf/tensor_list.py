"""Checks that a header has the tensors that its architecture can't do without, where no engine is here to be asked.

What llama.cpp 0c1e570 (2026-10) asks for in every layer was found by giving it files without tensors and adding what it
missed, for the models of the tests (``tests/bench/tensor_lists.py``). Only what doesn't hang on other figures than the
count of experts stands in the table: what it lacks may still be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from llmctl.gguf.layers import Figures
from llmctl.types.header import Header

QUERIES = "attn_q attn_k attn_v attn_output"
ATTENTION = f"attn_norm {QUERIES}"
FUSED = "attn_norm attn_qkv attn_output"
HEAD_NORMS = "attn_q_norm attn_k_norm"
GATED = "ffn_gate ffn_up ffn_down"
PLAIN = "ffn_up ffn_down"
EXPERTS = "ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
AFTER = "post_attention_norm post_ffw_norm"

REQUIRED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("baichuan", "bitnet", "dream", "ernie4_5", "eurobert", "exaone", "gemma", "granite"),
            *("granite_swa", "internlm2", "llada", "llama", "llama-embed", "minicpm", "mistral3"),
            *("nanbeige", "orion", "paddleocr", "pangu-embedded", "qwen2", "qwen2vl", "refact", "smollm3"),
            *("spark2_5", "xverse"),
        ),
        f"{ATTENTION} ffn_norm {GATED}",
    ),
    **dict.fromkeys(
        (
            *("grovemoe", "hunyuan-moe", "llada-moe", "maple", "mellum", "minimax-m2", "olmoe", "qwen3moe"),
            *("qwen3vlmoe", "rnd1"),
        ),
        f"{ATTENTION} {HEAD_NORMS} ffn_norm {EXPERTS}",
    ),
    **dict.fromkeys(
        ("deepseek", "deepseek2-ocr", "ernie4_5-moe", "llama4", "mimo2", "step35"), f"{ATTENTION} ffn_norm"
    ),
    **dict.fromkeys(
        ("arcee", "chatglm", "codeshell", "jais2", "nemotron", "starcoder2"), f"{ATTENTION} ffn_norm {PLAIN}"
    ),
    **dict.fromkeys(
        ("chameleon", "hunyuan-dense", "hunyuan_vl", "maincoder", "qwen3", "qwen3vl"),
        f"{ATTENTION} {HEAD_NORMS} ffn_norm {GATED}",
    ),
    **dict.fromkeys(("bloom", "gpt2", "gptneox", "mpt", "starcoder"), f"{FUSED} ffn_norm {PLAIN}"),
    **dict.fromkeys(("mamba", "mamba2", "nemotron_h", "nemotron_h_moe", "rwkv7"), "attn_norm"),
    **dict.fromkeys(("bailingmoe", "phimoe", "qwen2moe", "smallthinker"), f"{ATTENTION} ffn_norm {EXPERTS}"),
    **dict.fromkeys(("bailingmoe3", "deepseek2", "glm5-next", "hy_v4"), "attn_norm attn_output ffn_norm"),
    **dict.fromkeys(("cohere2", "command-r", "falcon-h1", "stablelm"), f"{ATTENTION} {GATED}"),
    **dict.fromkeys(("dots1", "exaone-moe", "minimax-m3"), f"{ATTENTION} {HEAD_NORMS} ffn_norm"),
    **dict.fromkeys(
        ("gemma-embedding", "gemma3", "muse-glimmer"), f"{ATTENTION} {HEAD_NORMS} ffn_norm {GATED} {AFTER}"
    ),
    **dict.fromkeys(("granitehybrid", "jamba", "lfm2moe"), "attn_norm ffn_norm"),
    **dict.fromkeys(("arwkv7", "lfm2"), f"attn_norm ffn_norm {GATED}"),
    **dict.fromkeys(("bert", "jina-bert-v3"), f"{QUERIES} {PLAIN} attn_output_norm layer_output_norm"),
    **dict.fromkeys(("exaone4", "olmo2"), f"{QUERIES} {HEAD_NORMS} {GATED} {AFTER}"),
    **dict.fromkeys(("gemma3n", "gemma4"), f"attn_norm attn_q attn_output ffn_norm {GATED} {AFTER}"),
    **dict.fromkeys(("jais", "qwen"), f"{FUSED} ffn_norm {GATED}"),
    **dict.fromkeys(("kimi-k3", "kimi-linear"), "attn_norm attn_q attn_output ffn_norm"),
    **dict.fromkeys(("qwen35moe", "qwen3next"), f"attn_norm {EXPERTS} post_attention_norm"),
    "afmoe": f"{ATTENTION} {HEAD_NORMS} ffn_norm {AFTER}",
    "apertus": f"{ATTENTION} {HEAD_NORMS} ffn_norm {PLAIN}",
    "arctic": f"{ATTENTION} ffn_norm {GATED} {EXPERTS}",
    "bailingmoe2": f"{FUSED} {HEAD_NORMS} ffn_norm",
    "dbrx": f"{FUSED} {EXPERTS} attn_output_norm",
    "deepseek4": f"attn_norm ffn_norm {EXPERTS}",
    "dots3note": "attn_norm attn_output attn_k_norm ffn_norm",
    "falcon": f"{FUSED} {PLAIN}",
    "gemma2": f"{ATTENTION} ffn_norm {GATED} {AFTER}",
    "glm4": f"{ATTENTION} ffn_norm {PLAIN} {AFTER}",
    "gpt-oss": f"{ATTENTION} {EXPERTS} post_attention_norm",
    "granitemoe": f"{ATTENTION} ffn_norm ffn_gate_inp ffn_up_exps ffn_down_exps",
    "grok": f"{ATTENTION} ffn_norm ffn_gate_inp ffn_up_exps ffn_down_exps post_ffw_norm attn_output_norm",
    "minicpm3": f"attn_norm attn_output ffn_norm {GATED}",
    "minimax-01": "attn_norm attn_output ffn_norm ffn_gate_inp ffn_up_exps ffn_down_exps",
    "mistral4": f"attn_norm attn_output ffn_norm {EXPERTS}",
    "modern-bert": f"attn_qkv attn_output ffn_norm {PLAIN}",
    "nomic-bert": f"{QUERIES} {GATED} attn_output_norm layer_output_norm",
    "nomic-bert-moe": f"{QUERIES} attn_output_norm layer_output_norm",
    "olmo": f"{QUERIES} {GATED}",
    "openelm": f"{FUSED} {HEAD_NORMS} ffn_norm {GATED}",
    "phi2": f"{ATTENTION} {PLAIN}",
    "phi3": f"attn_norm attn_output ffn_norm {PLAIN}",
    "plamo2": f"attn_norm ffn_norm {PLAIN}",
    "plamo3": f"{FUSED} {HEAD_NORMS} ffn_norm {PLAIN}",
    "seed_oss": f"{ATTENTION} {GATED} post_attention_norm",
}
"""Architecture -> the tensors (their names end in .weight) of every layer. Of a mixture of experts those of the dense
feed-forward network are not looked for, nor those of experts in a model, or a layer, that has none."""

DENSE = frozenset(GATED.split())
ROUTED = frozenset(EXPERTS.split())
INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(("attn_q", "attn_k", "attn_v"), "attn_qkv"),
    **dict.fromkeys(("ffn_gate_exps", "ffn_up_exps"), "ffn_gate_up_exps"),
}
"""What may hold a tensor together with others."""

WITHOUT_LAST_NORM = frozenset({"bert", "jina-bert-v3", "lfm2", "lfm2moe", "nomic-bert", "nomic-bert-moe", "olmo"})
IN_PAIRS = frozenset({"chatglm", "glm4", "modern-bert", "phi3", "plamo2", "plamo3", "qwen"})
"""Their feed_forward_length is not the width of ffn_up: gate and up are one matrix, or it counts both."""


def problem(header: Header) -> str | None:
    """The first tensor that is missing or misshapen, in words with "it"; None where none is, or that isn't known."""
    figures = Figures(header)
    required = REQUIRED.get(header.architecture)
    if required is None:
        return None
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    for name in ("token_embd", *(() if header.architecture in WITHOUT_LAST_NORM else ("output_norm",))):
        if f"{name}.weight" not in shapes:
            return f"it has no tensor {name}.weight"
    for layer in range(figures.number("block_count", 0) - figures.number("nextn_predict_layers", 0)):
        begin = f"blk.{layer}."
        for name in _names(figures, layer, required):
            if not {f"{begin}{name}.weight", f"{begin}{INSTEAD.get(name, name)}.weight"} & shapes.keys():
                return f"it has no tensor {begin}{name}.weight"
            if wrong := _misshapen(figures, name, shapes.get(f"{begin}{name}.weight")):
                return f"its tensor {begin}{name}.weight {wrong}"
    return None


def _names(figures: Figures, layer: int, required: str) -> Iterator[str]:
    experts = figures.number("expert_count", 0)
    routed = experts and layer >= figures.number("leading_dense_block_count", 0)
    for name in required.split():
        if not (name in DENSE and experts) and not (name in ROUTED and not routed):
            yield name


def _misshapen(figures: Figures, name: str, shape: tuple[int, ...] | None) -> str | None:
    """Which figure of the header the tensor's shape contradicts."""
    if shape is None:
        return None
    width = figures.number("embedding_length", 0)
    if name in ("attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up", "ffn_gate_inp") and shape[0] != width:
        return f"takes vectors of {shape[0]:,} elements, its header says {width:,}"
    if name in ("attn_output", "ffn_down") and shape[-1] != width:
        return f"makes vectors of {shape[-1]:,} elements, its header says {width:,}"
    if name in ("attn_norm", "ffn_norm") and prod(shape) != width:
        return f"has {prod(shape):,} elements, its header says {width:,}"
    feeding = None if figures.architecture in IN_PAIRS else figures.find("feed_forward_length")
    if name in ("ffn_gate", "ffn_up") and feeding is not None and shape[-1] != feeding:
        return f"makes vectors of {shape[-1]:,} elements, its header says {feeding:,}"
    return None
