"""Shapes and weights by role, on headers whose numbers can be added up by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.errors import IntegrityError
from llmctl.gguf.shape import shape, weights
from llmctl.types.header import Header, Tensor
from llmctl.types.model import Heads, Layer, Shape, Weights, Working

Metadata = dict[str, str | int | float | tuple[int | float | bool, ...]]

LLAMA: Metadata = {
    "block_count": 2,
    "context_length": 512,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}


def tensor(name: str, nbytes: int, type: str = "Q4_0", shape: tuple[int, ...] = (64, 10)) -> Tensor:
    return Tensor(name, shape, type, 0, nbytes)


def header(
    figures: Metadata, *tensors: Tensor, architecture: str = "llama", lengths: dict[str, int] | None = None
) -> Header:
    metadata = {f"{architecture}.{key}": value for key, value in figures.items()}
    return Header(3, architecture, metadata, lengths or {}, tensors, 0)


def test_a_dense_model() -> None:
    assert shape(header(LLAMA)) == Shape(
        architecture="llama",
        n_layer=2,
        n_embd=64,
        n_head=4,
        n_ff=128,
        n_vocab=None,
        context_train=512,
        kv_width=2 * 2 * (16 + 16),  # layers x key heads x (key + value)
        key_length=16,
        value_length=16,
        value_width=2 * 16,
        n_head_full=4,
        heads=(Heads(16, 16, 2),),
        working=Working(shared_experts=False),
        layers=(Layer(64), Layer(64)),
    )


def test_figures_per_layer() -> None:
    made = shape(
        header(
            {
                **LLAMA,
                "feed_forward_length": (128, 256),
                "attention.head_count": (4, 8),
                "attention.head_count_kv": (2, 0),
                "attention.key_length": 32,
                "attention.value_length": 8,
                "expert_count": 6,
                "expert_used_count": (1, 2),
            }
        )
    )
    assert (made.n_ff, made.n_head, made.kv_width, made.n_expert, made.n_expert_used) == (256, 8, 2 * 40, 6, 2)


def test_windows_and_full_layers_are_told_apart() -> None:
    gemma: Metadata = {**LLAMA, "block_count": 12, "attention.sliding_window": 512}
    made = shape(header(gemma, architecture="gemma3"))
    assert (made.kv_width, made.kv_window_width, made.window) == (2 * 64, 10 * 64, 512)
    full = shape(header({**gemma, "attention.sliding_window": 0}, architecture="gemma3"))
    assert (full.kv_width, full.kv_window_width, full.window) == (12 * 64, 0, None)


def test_values_of_unlike_width_are_padded_to_the_widest() -> None:
    """Two heads of 16 in the layers with a window, of 64 in the others, every sixth: they differ by 96 elements."""
    lengths: Metadata = {f"attention.{name}_length": 64 for name in ("key", "value")}
    lengths |= {f"attention.{name}_length_swa": 16 for name in ("key", "value")}
    made = shape(header({**LLAMA, **lengths, "block_count": 12, "attention.sliding_window": 9}, architecture="gemma3"))
    assert (made.value_width, made.kv_padding, made.kv_window_padding) == (128, 0, 10 * 96)
    assert made.layers[0] == Layer(2 * 32, windowed=True, padding=96)
    assert made.layers[5] == Layer(2 * 128)
    assert (made.key_length, made.value_length) == (64, 64)


def test_each_layer_has_its_own_cache_or_state() -> None:
    figures: Metadata = {**LLAMA, "attention.head_count_kv": (2, 0), "shortconv.l_cache": 3}
    made = shape(header(figures, architecture="lfm2"))
    assert made.layers == (Layer(64), Layer(0, state_bytes=2 * 64 * 4))
    assert (made.kv_width, made.state_bytes, made.kv_padding) == (64, 512, 0)


def test_latent_attention_and_per_layer_embeddings_are_noted() -> None:
    latent: Metadata = {**LLAMA, "attention.key_length_mla": 24, "attention.value_length_mla": 16}
    assert shape(header(latent, architecture="deepseek2")).latent and not shape(header(LLAMA)).latent
    wide: Metadata = {**LLAMA, "embedding_length_per_layer_input": 256}
    assert shape(header(wide, architecture="gemma4")).per_layer_width == 2 * 256


def test_an_unknown_architecture_caches_everything() -> None:
    made = shape(header({**LLAMA, "attention.sliding_window": 16}, architecture="brand-new"))
    assert (made.kv_width, made.window, made.state_bytes) == (128, None, 0)


def test_an_encoder_caches_nothing() -> None:
    assert shape(header(LLAMA, architecture="bert")).kv_width == 0


def test_state_is_four_bytes_an_element() -> None:
    mamba: Metadata = {**LLAMA, "ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16}
    made = shape(header(mamba, architecture="mamba"))
    assert (made.kv_width, made.state_bytes) == (0, 2 * 4 * (3 * 128 + 16 * 128))
    rwkv: Metadata = {**LLAMA, "attention.head_count": 0, "attention.head_count_kv": 0, "wkv.head_size": 16}
    assert shape(header(rwkv, architecture="rwkv6")).state_bytes == 2 * 4 * 64 * (2 + 16)


@pytest.mark.parametrize(
    ("figures", "tensors", "lengths", "expected"),
    [
        ({"vocab_size": 5}, [tensor("token_embd.weight", 1, shape=(64, 9))], {"tokenizer.ggml.tokens": 7}, 7),
        ({"vocab_size": 5}, [tensor("token_embd.weight", 1, shape=(64, 9))], {}, 5),
        ({}, [tensor("token_embd.weight", 1, shape=(64, 9))], {}, 9),
        ({}, [tensor("token_embd.weight", 1, shape=(64,))], {}, None),
    ],
)
def test_n_vocab(figures: Metadata, tensors: list[Tensor], lengths: dict[str, int], expected: int | None) -> None:
    assert shape(header({**LLAMA, **figures}, *tensors, lengths=lengths)).n_vocab == expected


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"block_count": 0}, "has 0 as llama.block_count in its header"),
        ({"block_count": 513}, "has 513 layers"),
        ({"block_count": 2, "nextn_predict_layers": 2}, "has 2 layers, 2 of them for drafting; 1 to 512"),
        ({"block_count": -1}, "has '-1' as llama.block_count, not a number up to 4294967295"),
        ({"embedding_length": "many"}, "has 'many' as llama.embedding_length"),
        ({"embedding_length": 64.0}, "has '64.0' as llama.embedding_length"),
        ({"embedding_length": 2**32}, "has '4294967296' as llama.embedding_length"),
        ({"embedding_length": (64, 64)}, "has no llama.embedding_length in its header: not a language model"),
        ({"attention.head_count_kv": (2,)}, "has 1 values of llama.attention.head_count_kv for 2 layers"),
        ({"attention.head_count_kv": (2, 0.5)}, "has '0.5' as llama.attention.head_count_kv"),
    ],
)
def test_figures_that_make_no_sense(figures: Metadata, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        shape(header({**LLAMA, **figures}))


@pytest.mark.parametrize("missing", ["block_count", "context_length", "embedding_length"])
def test_what_is_not_a_language_model_says_so(missing: str) -> None:
    figures = {key: value for key, value in LLAMA.items() if key != missing}
    with pytest.raises(IntegrityError, match=f"has no clip.{missing} in its header: not a language model"):
        shape(header(figures, architecture="clip"))


UNPACKABLE = {"Q8_0": 1000, "Q4_0": 170, "F32": 16, "Q4_K": 3000, "Q6_K": 2000}  # rows of ten
TABLE = tensor("token_embd.weight", 1000, "Q8_0")
HEAD = tensor("output.weight", 800, "Q6_K")
BLOCK = (
    tensor("blk.0.attn_norm.weight", 4, "F32", (64,)),
    tensor("blk.0.attn_q.weight", 100),
    tensor("blk.0.attn_q.bias", 2, "F32", (64,)),
    tensor("blk.0.ffn_gate_inp.weight", 16, "F32"),
    tensor("blk.0.ffn_up_exps.weight", 3000, "Q4_K", (64, 10, 8)),
    tensor("blk.0.ffn_down_exps.weight", 2000, "Q6_K", (64, 10, 8)),
    tensor("blk.0.ffn_down_exps.bias", 30, "F32", (64, 8)),
    tensor("blk.0.ffn_up_shexp.weight", 70),
)


def test_a_table_that_is_also_the_head_is_streamed() -> None:
    made = weights(header(LLAMA, TABLE, *BLOCK))
    assert made == Weights(
        total_bytes=1000 + 4 + 100 + 2 + 16 + 3000 + 2000 + 30 + 70,
        embedding_bytes=0,
        expert_bytes=3000 + 2000 + 30,
        type_bytes={"Q8_0": 1000, "Q4_0": 170, "F32": 16, "Q4_K": 3000, "Q6_K": 2000},
        exact=True,
        expert_type_bytes={"Q4_K": 3000, "Q6_K": 2000},
        tied_bytes=1000,
        layer_bytes=(4 + 100 + 2 + 16 + 3000 + 2000 + 30 + 70, 0),
        layer_expert_bytes=(3000 + 2000 + 30, 0),
        unpackable_bytes=UNPACKABLE,
        matrix_bytes=100,
        expert_matrix_bytes=3000,
    )


def test_a_table_beside_a_head_is_looked_up() -> None:
    made = weights(header(LLAMA, TABLE, HEAD))
    assert (made.total_bytes, made.embedding_bytes, made.type_bytes) == (1800, 1000, {"Q6_K": 800})


def test_per_layer_tables_are_always_looked_up() -> None:
    made = weights(header(LLAMA, TABLE, tensor("per_layer_token_embd.weight", 5000, "Q5_1"), architecture="gemma4"))
    assert (made.embedding_bytes, made.type_bytes) == (5000, {"Q8_0": 1000})


def test_the_table_of_an_encoder_is_looked_up_and_no_head() -> None:
    made = weights(header(LLAMA, TABLE, BLOCK[1], architecture="bert"))
    assert (made.embedding_bytes, made.type_bytes) == (1000, {"Q4_0": 100})


def test_the_table_of_gemma_embedding_is_loaded_as_a_head_too() -> None:
    """By llama.cpp's own sums on a device that computes nothing: 384 MiB on the CPU, and the same on the device."""
    made = weights(header(LLAMA, TABLE, BLOCK[1], architecture="gemma-embedding"))
    assert (made.embedding_bytes, made.tied_bytes, made.total_bytes) == (0, 1000, 1100)


def test_one_tensor_per_expert_counts_as_experts_too() -> None:
    made = weights(header(LLAMA, tensor("blk.0.ffn_gate.3.weight", 50), tensor("blk.0.ffn_gate.weight", 7)))
    assert (made.expert_bytes, made.expert_type_bytes) == (50, {"Q4_0": 50})


def test_draft_layers_are_counted_and_nothing_of_them_is_loaded() -> None:
    figures: Metadata = {**LLAMA, "block_count": 3, "nextn_predict_layers": 1}
    draft = (tensor("blk.2.nextn.eh_proj.weight", 900), tensor("blk.2.ffn_up_exps.weight", 5000, "Q4_K", (64, 10, 8)))
    made = header(figures, TABLE, tensor("blk.1.attn_q.weight", 100), *draft)
    without = weights(header(LLAMA, TABLE, tensor("blk.1.attn_q.weight", 100)))
    assert weights(made) == replace(without, layer_bytes=(0, 100, 0), layer_expert_bytes=(0, 0, 0))
    assert shape(made) == replace(shape(header(LLAMA, TABLE)), n_draft=1)


DRAFTING: Metadata = {**LLAMA, "block_count": 3, "nextn_predict_layers": 1}
DRAFT = (
    tensor("blk.2.attn_q.weight", 100),
    tensor("blk.2.ffn_norm.weight", 4, "F32", (64,)),
    tensor("blk.2.ffn_up_exps.weight", 5000, "Q4_K", (64, 16, 8)),
    tensor("blk.2.ffn_gate_inp.weight", 16, "F32"),
    tensor("blk.2.nextn.eh_proj.weight", 900),
    tensor("blk.2.nextn.shared_head_norm.weight", 4, "F32", (64,)),
)


@pytest.mark.parametrize(
    ("architecture", "loaded"), [("glm4moe", 0), ("step35", 5020), ("hy_v3", 5020), ("cohere2moe", 4)]
)
def test_what_of_draft_layers_is_loaded_anyway(architecture: str, loaded: int) -> None:
    made = weights(header(DRAFTING, TABLE, *DRAFT, architecture=architecture))
    assert (made.draft_layer_bytes, made.total_bytes) == (loaded, 1000 + loaded)
    assert made.layer_bytes == (0, 0, loaded)
    assert made.type_bytes == {"Q8_0": 1000}, "nothing of it is streamed"


def test_a_draft_key_without_draft_tensors_is_no_draft_layer_to_deepseek4() -> None:
    figures: Metadata = {**DRAFTING, "attention.compress_ratios": (0, 4, 128)}
    without = shape(header(figures, TABLE, architecture="deepseek4"))
    assert (without.n_layer, without.n_draft) == (3, 0)
    with_them = shape(header(figures, TABLE, *DRAFT, architecture="deepseek4"))
    assert (with_them.n_layer, with_them.n_draft) == (2, 1)


def test_looped_layers_are_run_and_cached_in_each_pass_and_weigh_once() -> None:
    made = header({**LLAMA, "num_loops": 2}, TABLE, *BLOCK, architecture="nanbeige")
    looped, once = shape(made), shape(header(LLAMA, TABLE, *BLOCK))
    assert (looped.n_layer, looped.passes, looped.kv_width) == (4, 2, 2 * once.kv_width)
    assert weights(made).layer_bytes == (*weights(header(LLAMA, TABLE, *BLOCK)).layer_bytes, 0, 0)
    stacks: Metadata = {**LLAMA, "block_count": 32, "hrm.layers_per_stack": 4, "hrm.h_cycles": 2, "hrm.l_cycles": 3}
    assert shape(header(stacks, architecture="hrm_text")).passes == 4


@pytest.mark.parametrize(
    ("spec", "unpackable"),
    [
        (tensor("blk.0.ffn_down.weight", 100, shape=(64, 13653)), True),
        (tensor("blk.0.ffn_down.weight", 100, shape=(13653, 64)), False),
        (tensor("blk.0.attn_k_b.weight", 100, shape=(64, 128, 16)), True),  # multiplied head by head
        (tensor("blk.0.ffn_up_exps.weight", 100, shape=(64, 128, 16)), False),
    ],
)
def test_what_the_cpu_can_repack(spec: Tensor, unpackable: bool) -> None:
    assert weights(header(LLAMA, HEAD, spec)).unpackable_bytes.get("Q4_0", 0) == (100 if unpackable else 0)


def test_a_table_that_is_multiplied_where_it_lies_is_looked_up_too() -> None:
    """bitnet's stays with the CPU, has no copy on a device, and is not repacked."""
    table = tensor("token_embd.weight", 1000, "Q4_0", (64, 16))
    made = weights(header(LLAMA, table, architecture="bitnet"))
    assert (made.embedding_bytes, made.tied_bytes, made.type_bytes) == (1000, 0, {"Q4_0": 1000})
    assert made.unpackable_bytes == {"Q4_0": 1000}
    assert weights(header(LLAMA, table)).unpackable_bytes == {}


def test_heads_of_all_kinds() -> None:
    figures: Metadata = {
        **LLAMA,
        "attention.key_length": 192,
        "attention.value_length": 128,
        "attention.head_count": (4, 0),
        "attention.head_count_kv": (1, 0),
    }
    assert shape(header(figures, architecture="deci")).heads == (Heads(192, 128, 4),)
