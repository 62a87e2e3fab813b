"""The tensors of real models' files: names, shapes, and the weight types that llama.cpp's quantizer gives them.

``tensors("qwen3-4b", "Q4_K_M")`` is the tensor table of such a file, for the models of ``real_shapes`` whose
architecture is in LAYERS. The mixes are those of llama_tensor_get_type in src/llama-quant.cpp of llama.cpp, without an
importance matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.types.header import Header, Tensor
from tests.fakes.gguf_file import TensorSpec
from tests.fakes.real_shapes import models

TIED = frozenset(
    {
        *(
            "gemma3-270m",
            "gemma3-1b",
            "gemma4-12b",
            "gemma4-26b",
            "granite-3b-code",
            "lfm2-1.2b",
            "llama-3.2-1b",
            "llama-3.2-3b",
        ),
        *("qwen3-0.6b", "qwen3-4b", "smollm2-135m", "smollm2-360m", "smollm2-1.7b", "granite4-3b", "smollm3-3b"),
        *("phi4-mini", "ministral3-3b", "granitemoe-3b", "ernie4_5-0.3b", "gpt2", "bitnet-2b"),
        "gemma4-26b",
    }
)
"""Their token table is the output head as well."""

# The type of most matrices, and that of the ones that get more bits.
MIXES = {
    "F16": ("F16", "F16"),
    "Q4_0": ("Q4_0", "Q4_0"),
    "Q8_0": ("Q8_0", "Q8_0"),
    "Q4_K_M": ("Q4_K", "Q6_K"),
    "Q5_K_M": ("Q5_K", "Q6_K"),
}
QKV = {"Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
INSTEAD = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # of rows that aren't whole blocks of 256
Shapes = Iterator[tuple[str, tuple[int, ...]]]


class Figures:
    """The figures of a model that its tensors' shapes come from."""

    def __init__(self, name: str) -> None:
        metadata = models()[name]
        self.architecture = str(metadata["general.architecture"])
        found: dict[str, Any] = {key.partition(".")[2]: value for key, value in metadata.items()}
        self.vocab, self.embd, self.layers = found["vocab_size"], found["embedding_length"], found["block_count"]
        heads = found["attention.head_count"]
        self.layer_heads = heads if isinstance(heads, list) else [heads] * self.layers
        self.heads, kv = max(self.layer_heads), found.get("attention.head_count_kv", heads)
        self.kv_heads = kv if isinstance(kv, list) else [kv] * self.layers
        self.key = found.get("attention.key_length", self.embd // self.heads)
        self.value = found.get("attention.value_length", self.embd // self.heads)
        ff = found["feed_forward_length"]
        self.layer_ff = ff if isinstance(ff, list) else [ff] * self.layers
        self.ff, self.experts = max(self.layer_ff), found.get("expert_count", 0)
        self.drafting = found.get("nextn_predict_layers", 0)
        self.expert_ff = found.get("expert_feed_forward_length", self.ff)
        self.dense_first = found.get("leading_dense_block_count", 0)
        self.shared = found.get("expert_shared_count", 0)
        self.latent = found.get("attention.kv_lora_rank", 0)
        self.conv = found.get("shortconv.l_cache", 0)
        self.rope = found.get("rope.dimension_count", 0)
        self.windowed = found.get("attention.sliding_window_pattern", [False] * self.layers)
        self.key_window = found.get("attention.key_length_swa", self.key)
        self.full_every = found.get("full_attention_interval", 4 if self.architecture == "qwen3next" else 1)
        self.state, self.groups = found.get("ssm.state_size", 0), found.get("ssm.group_count", 0)
        self.inner, self.state_heads = found.get("ssm.inner_size", 0), found.get("ssm.time_step_rank", 0)
        self.kernel = found.get("ssm.conv_kernel", 0)
        self.context = found["context_length"]


def _norms(figures: Figures, *names: str) -> Shapes:
    yield from ((name, (figures.embd,)) for name in names)


def _attention(figures: Figures, layer: int) -> Shapes:
    heads, kv_heads = figures.layer_heads[layer], figures.kv_heads[layer]
    yield "attn_q.weight", (figures.embd, heads * figures.key)
    yield "attn_k.weight", (figures.embd, kv_heads * figures.key)
    yield "attn_v.weight", (figures.embd, kv_heads * figures.value)
    yield "attn_output.weight", (heads * figures.value, figures.embd)


def _gated(figures: Figures, ff: int, suffix: str = "") -> Shapes:
    yield f"ffn_gate{suffix}.weight", (figures.embd, ff)
    yield f"ffn_up{suffix}.weight", (figures.embd, ff)
    yield f"ffn_down{suffix}.weight", (ff, figures.embd)


def _experts(figures: Figures) -> Shapes:
    yield "ffn_gate_inp.weight", (figures.embd, figures.experts)
    for name, shape in _gated(figures, figures.expert_ff, "_exps"):
        yield name, (*shape, figures.experts)


def _llama(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    yield from _attention(figures, layer)
    yield from _experts(figures) if figures.experts else _gated(figures, figures.ff)


def _qwen3(figures: Figures, layer: int) -> Shapes:
    yield from _llama(figures, layer)
    yield from (("attn_q_norm.weight", (figures.key,)), ("attn_k_norm.weight", (figures.key,)))


def _gemma3(figures: Figures, layer: int) -> Shapes:
    yield from _qwen3(figures, layer)
    yield from _norms(figures, "post_attention_norm.weight", "post_ffw_norm.weight")


def _phi3(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    yield "attn_qkv.weight", (figures.embd, (figures.heads + 2 * figures.kv_heads[layer]) * figures.key)
    yield "attn_output.weight", (figures.heads * figures.value, figures.embd)
    yield "ffn_up.weight", (figures.embd, 2 * figures.ff)
    yield "ffn_down.weight", (figures.ff, figures.embd)


def _olmoe(figures: Figures, layer: int) -> Shapes:
    yield from _llama(figures, layer)
    yield "attn_q_norm.weight", (figures.embd,)
    yield "attn_k_norm.weight", (figures.kv_heads[layer] * figures.key,)


def _lfm2(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    if figures.kv_heads[layer]:
        yield from _attention(figures, layer)
        yield from (("attn_q_norm.weight", (figures.key,)), ("attn_k_norm.weight", (figures.key,)))
    else:
        yield "shortconv.conv.weight", (figures.conv, figures.embd)
        yield "shortconv.in_proj.weight", (figures.embd, 3 * figures.embd)
        yield "shortconv.out_proj.weight", (figures.embd, figures.embd)
    yield from _gated(figures, figures.ff)


def _deepseek2(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    yield "attn_kv_a_norm.weight", (figures.latent,)
    yield "attn_q.weight", (figures.embd, figures.heads * figures.key)
    yield "attn_kv_a_mqa.weight", (figures.embd, figures.latent + figures.rope)
    yield "attn_kv_b.weight", (figures.latent, figures.heads * (figures.key - figures.rope + figures.value))
    yield "attn_output.weight", (figures.heads * figures.value, figures.embd)
    if layer < figures.dense_first:
        yield from _gated(figures, figures.ff)
    else:
        yield from _experts(figures)
        yield from _gated(figures, figures.shared * figures.expert_ff, "_shexp")


def _gpt_oss(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "post_attention_norm.weight", "attn_output.bias")
    yield from _attention(figures, layer)
    for name, width in (("q", figures.heads), ("k", figures.kv_heads[layer]), ("v", figures.kv_heads[layer])):
        yield f"attn_{name}.bias", (width * figures.key,)
    yield "attn_sinks.weight", (figures.heads,)
    yield from _experts(figures)
    yield "ffn_gate_inp.bias", (figures.experts,)
    for name, width in (("gate", figures.expert_ff), ("up", figures.expert_ff), ("down", figures.embd)):
        yield f"ffn_{name}_exps.bias", (width, figures.experts)


def _qwen35(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "post_attention_norm.weight")
    if (layer + 1) % figures.full_every:
        mixed = 2 * figures.state * figures.groups + figures.inner
        yield "attn_qkv.weight", (figures.embd, mixed)
        yield "attn_gate.weight", (figures.embd, figures.inner)
        yield "ssm_conv1d.weight", (figures.kernel, mixed)
        yield from (("ssm_dt.bias", (figures.state_heads,)), ("ssm_a", (figures.state_heads,)))
        if figures.architecture == "qwen3next":
            yield "ssm_ba.weight", (figures.embd, 2 * figures.state_heads)
        else:
            yield "ssm_beta.weight", (figures.embd, figures.state_heads)
            yield "ssm_alpha.weight", (figures.embd, figures.state_heads)
        yield "ssm_norm.weight", (figures.state,)
        yield "ssm_out.weight", (figures.inner, figures.embd)
    else:
        for name, shape in _attention(figures, layer):
            yield name, (shape[0], 2 * shape[1]) if name == "attn_q.weight" else shape  # with a gate
        yield from (("attn_q_norm.weight", (figures.key,)), ("attn_k_norm.weight", (figures.key,)))
    if not figures.experts:
        yield from _gated(figures, figures.ff)
        return
    yield from _experts(figures)
    yield "ffn_gate_inp_shexp.weight", (figures.embd,)
    yield from _gated(figures, figures.expert_ff, "_shexp")


def _gemma4(figures: Figures, layer: int) -> Shapes:
    """Those without per-layer embeddings. Layers that see everything have their keys as values."""
    yield from _norms(figures, "attn_norm.weight", "post_attention_norm.weight", "ffn_norm.weight")
    yield from (("post_ffw_norm.weight", (figures.embd,)), ("layer_output_scale.weight", (1,)))
    windowed = figures.windowed[layer]
    head = figures.key_window if windowed else figures.key
    yield "attn_q.weight", (figures.embd, figures.heads * head)
    yield "attn_k.weight", (figures.embd, figures.kv_heads[layer] * head)
    if windowed:
        yield "attn_v.weight", (figures.embd, figures.kv_heads[layer] * head)
    yield "attn_output.weight", (figures.heads * head, figures.embd)
    yield from (("attn_q_norm.weight", (head,)), ("attn_k_norm.weight", (head,)))
    yield from _gated(figures, figures.ff)
    if figures.experts:
        norms = ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
        yield from _norms(figures, "ffn_gate_inp.scale", *(f"{name}.weight" for name in norms))
        yield "ffn_gate_inp.weight", (figures.embd, figures.experts)
        yield "ffn_gate_up_exps.weight", (figures.embd, 2 * figures.expert_ff, figures.experts)
        yield "ffn_down_exps.weight", (figures.expert_ff, figures.embd, figures.experts)


def _llama4(figures: Figures, layer: int) -> Shapes:
    yield from _llama(figures, layer)
    yield from _gated(figures, figures.expert_ff, "_shexp")


def _with_biases(shapes: Shapes, *names: str) -> Shapes:
    for name, shape in shapes:
        yield name, shape
        if name.removesuffix(".weight") in names:
            yield name.replace(".weight", ".bias"), (shape[-1],)


def _qwen2(figures: Figures, layer: int) -> Shapes:
    yield from _with_biases(_llama(figures, layer), "attn_q", "attn_k", "attn_v")


def _stablelm(figures: Figures, layer: int) -> Shapes:
    yield from _with_biases(_llama(figures, layer), "attn_norm", "attn_q", "attn_k", "attn_v", "ffn_norm")


def _olmo2(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "post_attention_norm.weight", "post_ffw_norm.weight", "attn_q_norm.weight")
    yield "attn_k_norm.weight", (figures.kv_heads[layer] * figures.key,)
    yield from _attention(figures, layer)
    yield from _gated(figures, figures.ff)


def _gpt2(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "attn_norm.bias", "ffn_norm.weight", "ffn_norm.bias")
    products = (("attn_qkv", figures.embd, 3 * figures.embd), ("attn_output", figures.embd, figures.embd))
    for name, inner, outer in (*products, ("ffn_up", figures.embd, figures.ff), ("ffn_down", figures.ff, figures.embd)):
        yield f"{name}.weight", (inner, outer)
        yield f"{name}.bias", (outer,)


def _jais(figures: Figures, layer: int) -> Shapes:
    yield from _gpt2(figures, layer)
    yield from (("ffn_gate.weight", (figures.embd, figures.ff)), ("ffn_gate.bias", (figures.ff,)))


def _bitnet(figures: Figures, layer: int) -> Shapes:
    yield from _llama(figures, layer)
    yield from (("attn_sub_norm.weight", (figures.embd,)), ("ffn_sub_norm.weight", (figures.ff,)))


def _deci(figures: Figures, layer: int) -> Shapes:
    """Layers without heads have no attention, those without key heads one matrix in its place."""
    if figures.kv_heads[layer]:
        yield from _norms(figures, "attn_norm.weight")
        yield from _attention(figures, layer)
    elif figures.layer_heads[layer]:
        yield from (("attn_norm.weight", (figures.embd,)), ("attn_output.weight", (figures.embd, figures.embd)))
    if figures.layer_ff[layer]:
        yield from _norms(figures, "ffn_norm.weight")
        yield from _gated(figures, figures.layer_ff[layer])


def _mixture(figures: Figures, layer: int) -> Shapes:
    """After the dense layers, experts and a shared one of their width; with what drafting takes in the last layers."""
    if layer < figures.dense_first:
        yield from _gated(figures, figures.ff)
    else:
        yield from _experts(figures)
        yield from _gated(figures, figures.expert_ff, "_shexp")
    if layer >= figures.layers - figures.drafting:
        yield "nextn.eh_proj.weight", (2 * figures.embd, figures.embd)
        yield from _norms(figures, "nextn.enorm.weight", "nextn.hnorm.weight", "nextn.shared_head_norm.weight")


def _glm4moe(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "post_attention_norm.weight")
    yield from _with_biases(_attention(figures, layer), "attn_q", "attn_k", "attn_v")
    yield from _mixture(figures, layer)
    if layer >= figures.dense_first:
        yield "exp_probs_b.bias", (figures.experts,)


def _step35(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    yield from _attention(figures, layer)
    yield "attn_gate.weight", (figures.embd, figures.layer_heads[layer])
    yield from _mixture(figures, layer)


def _hy_v3(figures: Figures, layer: int) -> Shapes:
    yield from _norms(figures, "attn_norm.weight", "ffn_norm.weight")
    yield from _attention(figures, layer)
    yield from (("attn_q_norm.weight", (figures.key,)), ("attn_k_norm.weight", (figures.key,)))
    yield from _mixture(figures, layer)


LAYERS: dict[str, Callable[[Figures, int], Shapes]] = {
    "bitnet": _bitnet,
    "deci": _deci,
    "deepseek2": _deepseek2,
    "ernie4_5": _llama,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "glm4moe": _glm4moe,
    "gpt-oss": _gpt_oss,
    "gpt2": _gpt2,
    "granite": _llama,
    "granitemoe": _llama,
    "hy_v3": _hy_v3,
    "jais": _jais,
    "lfm2": _lfm2,
    "llama": _llama,
    "llama4": _llama4,
    "mistral3": _llama,
    "nanbeige": _llama,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3,
    "qwen35": _qwen35,
    "qwen3next": _qwen35,
    "qwen35moe": _qwen35,
    "smollm3": _llama,
    "step35": _step35,
    "stablelm": _stablelm,
}


def tensors(name: str, quant: str, order: Sequence[int] = ()) -> list[TensorSpec]:
    """``order`` is that of the layers when the file was quantized, if it was not the natural one: which of them get
    more bits was counted in it."""
    figures = Figures(name)
    found: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (figures.embd, figures.vocab))]
    found += [("token_embd_norm.weight" if figures.conv else "output_norm.weight", (figures.embd,))]
    if figures.architecture in ("gpt2", "jais", "stablelm"):
        found.append(("output_norm.bias", (figures.embd,)))
    if figures.architecture == "gemma4":
        found.append(("rope_freqs.weight", (figures.key // 2,)))
    if figures.architecture == "gpt2":
        found.append(("position_embd.weight", (figures.embd, figures.context)))
    if name not in TIED:
        found.append(("output.weight", (figures.embd, figures.vocab)))
    for layer in range(figures.layers):
        found += [(f"blk.{layer}.{part}", shape) for part, shape in LAYERS[figures.architecture](figures, layer)]
    places = {layer: place for place, layer in enumerate(order or range(figures.layers))}
    return [TensorSpec(one, shape, _type(one, shape, quant, figures, name in TIED, places)) for one, shape in found]


def header(name: str, quant: str, order: Sequence[int] = ()) -> Header:
    """The header of such a file."""
    table, offset = [], 0
    for spec in tensors(name, quant, order):
        block = WEIGHT_TYPE_BY_NAME[spec.type]
        size = prod(spec.shape) // block.block_length * block.block_bytes
        table.append(Tensor(spec.name, spec.shape, spec.type, offset, size))
        offset += -(-size // 32) * 32
    metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in models()[name].items()}
    return Header(3, Figures(name).architecture, metadata, {}, tuple(table), 0)


def _type(
    name: str, shape: tuple[int, ...], quant: str, figures: Figures, tied: bool, places: Mapping[int, int]
) -> str:
    in_full = (".bias", "ffn_gate_inp.weight", "conv.weight", "conv1d.weight", "position_embd.weight")
    if len(shape) == 1 or name.endswith(in_full):
        return "F32"
    if quant == "MXFP4":
        return "MXFP4" if "_exps" in name else "Q8_0"
    usual, more = MIXES[quant]
    kind = usual
    layer = places[int(name.split(".")[1])] if name.startswith("blk.") else 0
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        kind = usual if quant in ("F16", "Q8_0") else "Q6_K"
    elif "attn_v." in name or "ffn_down" in name:
        kind = more if _gets_more(layer, figures.layers) else usual
        if figures.experts == 8 and "attn_v." in name and quant != "F16":
            kind = "Q8_0"
    elif "attn_k." in name and figures.experts == 8 and quant != "F16":
        kind = "Q8_0"
    elif "attn_qkv" in name:
        kind = QKV.get(quant, usual)
    elif "attn_output" in name and figures.experts == 8 and quant == "Q4_K_M":
        kind = "Q5_K"
    candidates = (kind, INSTEAD.get(kind, "F16"), "F16")
    return next(one for one in candidates if shape[0] % WEIGHT_TYPE_BY_NAME[one].block_length == 0)


def _gets_more(layer: int, layers: int) -> bool:
    """use_more_bits: the first and the last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
