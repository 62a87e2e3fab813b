"""The cache and state that we read out of a header, held against what llama.cpp allocates for the same header."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmctl.gguf.header import read_file
from llmctl.gguf.shape import shape
from tests.fakes.gguf_file import Value, write

N_CTX, N_UBATCH = 1024, 256
F16_BYTES, MIB = 2, 1 << 20

BASE: dict[str, Value] = {
    "vocab_size": 128,
    "context_length": 4096,
    "embedding_length": 256,
    "block_count": 6,
    "feed_forward_length": 384,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.sliding_window": 256,
}
MOE: dict[str, Value] = {
    "expert_count": 2,
    "expert_used_count": 2,
    "expert_shared_count": 1,
    "expert_feed_forward_length": 384,
    "expert_shared_feed_forward_length": 192,
    "expert_gating_func": 2,
    "expert_weights_scale": 1.0,
    "leading_dense_block_count": 1,
}
SSM: dict[str, Value] = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 512,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 8,
}
GROUPED_SSM: dict[str, Value] = {**SSM, "ssm.group_count": 2}
MLA: dict[str, Value] = {
    "embedding_length": 128,
    "attention.head_count": 1,
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 512,
    "attention.kv_lora_rank": 512,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "rope.dimension_count": 64,
}
INDEXER: dict[str, Value] = {
    "attention.indexer.head_count": 64,
    "attention.indexer.key_length": 128,
    "attention.indexer.top_k": 1024,
    "attention.indexer.block_size": 4,
    "attention.indexer.local_blocks": 1,
}
WKV: dict[str, Value] = {
    "wkv.head_size": 64,
    "time_mix_extra_dim": 64,
    "time_decay_extra_dim": 128,
    "attention.decay_lora_rank": 32,
    "attention.iclr_lora_rank": 32,
    "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 32,
}
K3: dict[str, Value] = {
    "attn_res.block_size": 12,
    "activation.situ_beta": 4.0,
    "activation.situ_linear_beta": 25.0,
    "expert_latent_length": 384,
}
HYPER: dict[str, Value] = {
    "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 2,
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.magnitude": 2.0,
    "hyper_connection.low_rank": 8,
    "swiglu_clamp_exp": 10.0,
    "expert_weights_norm": True,
}
MLA_SWA: dict[str, Value] = {
    "attention.kv_lora_rank_swa": 512,
    "attention.key_length_swa": 576,
    "attention.value_length_swa": 512,
    "attention.key_length_mla_swa": 192,
    "attention.value_length_mla_swa": 128,
    "rope.freq_base_swa": 10000.0,
}
LISTED: dict[str, Value] = {"attention.sliding_window_pattern": [True, False, True, True, False, True]}
HYBRID: dict[str, Value] = {"attention.head_count_kv": [2, 0, 0, 2, 0, 2]}
FEED_FORWARD: dict[str, Value] = {"feed_forward_length": [0, 0, 384, 0, 384, 0]}
KDA: dict[str, Value] = {
    "kda.head_dim": 128,
    "kda.gate_lower_bound": -5.0,
    "attention.head_count_kv": [1, 0, 0, 1, 0, 0],
}
OWNERS: dict[str, Value] = {"attention.indexer.types": [1, 1, 0, 0, 1, 0]}  # the first layer must, for hy_v4
FULL_OWNERS: dict[str, Value] = {"attention.indexer.types": [0, 1, 0, 0, 1, 0]}  # LISTED's full layers, for dots3note
POOLED: dict[str, Value] = {"attention.indexer.kpool": 4, "attention.key_length": 512, "rope.dimension_count": 0}
SECTIONS: dict[str, Value] = {"rope.dimension_sections": [11, 11, 10, 0]}
GEMMA4: dict[str, Value] = {
    "attention.sliding_window_pattern": [True, True, False, True, True, False],
    "attention.key_length": 128,
    "attention.value_length": 128,
    "attention.key_length_swa": 64,
    "attention.value_length_swa": 64,
    "embedding_length_per_layer_input": 32,
}

CASES: list[tuple[str, dict[str, Value]]] = [
    ("llama", {}),
    ("llama", {"attention.key_length": 96, "attention.value_length": 96, "rope.dimension_count": 96}),
    ("phi3", {}),
    ("qwen3", {}),
    ("deci", {"attention.head_count": [4] * 6, "attention.head_count_kv": [2, 0, 1, 2, 1, 2]}),
    ("glm4moe", {**MOE, "block_count": 7, "nextn_predict_layers": 1}),
    ("dream", {}),
    # windows
    ("afmoe", MOE),
    ("cohere2", {"logit_scale": 1.0}),
    ("cohere2moe", {**MOE, **LISTED, "logit_scale": 1.0}),
    ("exaone-moe", MOE),
    ("exaone4", {}),
    ("exaone4", {"block_count": 64}),
    ("gemma2", {}),
    ("gemma3", {}),
    ("gemma3", {"attention.sliding_window_pattern": 3}),
    ("gemma3n", {"block_count": 30, "attention.shared_kv_layers": 10}),
    ("gemma4", GEMMA4),
    ("gemma4", {**GEMMA4, "attention.shared_kv_layers": 3}),
    ("gpt-oss", MOE),
    ("granite_swa", {**LISTED, "logit_scale": 1.0}),
    ("laguna", MOE),
    ("llama4", {**MOE, "interleave_moe_layer_step": 2}),
    ("maple", {**MOE, **LISTED, "swiglu_clamp_exp": 7.0}),
    ("mellum", MOE),
    ("mimo2", {**MOE, **LISTED}),
    ("muse-glimmer", {"logit_scale": 1.0}),
    ("olmo2", {}),
    ("plamo3", {}),
    ("smallthinker", MOE),
    ("spark2_5", {**MOE, **LISTED}),
    ("step35", {**MOE, **LISTED}),
    # latent attention, sparse attention
    ("deepseek2", {**MOE, **MLA}),
    ("deepseek2", {**MOE, **MLA, "attention.key_length_mla": 0, "attention.value_length_mla": 0}),
    ("deepseek32", {**MOE, **MLA, **INDEXER}),
    ("dots3note", {**MOE, **MLA, **MLA_SWA, **INDEXER, **LISTED, **FULL_OWNERS}),
    ("glm-dsa", {**MOE, **MLA, **INDEXER}),
    ("hy_v4", {**MOE, **MLA, **INDEXER, **HYPER, **OWNERS}),
    ("minimax-m3", {**MOE, **INDEXER, "attention.indexer.head_count": 2, "rope.dimension_count": 64}),
    ("mistral4", {**MOE, **MLA}),
    # recurrent and hybrid
    ("arwkv7", {**WKV, "token_shift_count": 1}),
    ("bailingmoe3", {**MOE, **MLA, **SSM, **KDA}),
    ("falcon-h1", GROUPED_SSM),
    ("glm5-next", {**MOE, **MLA, **SSM, **KDA, **INDEXER, **HYPER, **POOLED}),
    ("granitehybrid", {**GROUPED_SSM, **HYBRID}),
    ("jamba", {**SSM, **HYBRID}),
    ("kimi-k3", {**MOE, **MLA, **SSM, **KDA, **K3}),
    ("kimi-linear", {**MOE, **MLA, **SSM, **KDA}),
    ("lfm2", {**HYBRID, "shortconv.l_cache": 3}),
    ("lfm2", {**HYBRID, "shortconv.l_cache": 3, "attention.sliding_window": 0}),
    ("lfm2moe", {**MOE, **HYBRID, "shortconv.l_cache": 3}),
    ("mamba", SSM),
    ("mamba2", GROUPED_SSM),
    ("minimax-01", {**MOE, "full_attention_interval": 2, "residual_scale": 1.0}),
    ("nemotron_h", {**GROUPED_SSM, **HYBRID, **FEED_FORWARD}),
    ("nemotron_h_moe", {**MOE, **GROUPED_SSM, **HYBRID, **FEED_FORWARD}),
    ("plamo2", {**SSM, **HYBRID, "ssm.group_count": 0}),
    ("qwen35", {**GROUPED_SSM, **SECTIONS, "full_attention_interval": 3}),
    ("qwen35moe", {**MOE, **GROUPED_SSM, **SECTIONS}),
    ("qwen3next", {**MOE, **GROUPED_SSM}),
    ("qwen4exp", {**MOE, **GROUPED_SSM, **INDEXER, **HYPER, **SECTIONS, "attention.indexer.key_length": 64}),
    ("rwkv7", WKV),
]


def header_file(folder: Path, number: int, architecture: str, figures: dict[str, Value]) -> Path:
    metadata: dict[str, Value] = {"general.architecture": architecture}
    metadata |= {f"{architecture}.{key}": value for key, value in (BASE | figures).items()}
    # llama.cpp's own made-up tokenizer, for tests
    metadata |= {"tokenizer.ggml.model": "test", "tokenizer.ggml.tokens": [f"t{token}" for token in range(128)]}
    metadata |= {"tokenizer.ggml.scores": [0.0] * 128}
    return write(folder / f"{number:02}-{architecture}.gguf", metadata)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("headers")
    return [header_file(folder, number, *case) for number, case in enumerate(CASES)]


@pytest.fixture(scope="module")
def engine(files: list[Path]) -> list[object]:
    child = [sys.executable, str(Path(__file__).with_name("engine_memory.py")), str(N_CTX), str(N_UBATCH)]
    answers: list[object] = []
    while len(answers) < len(files):  # figures that don't fit together make it abort: note it, and go on after them
        done = subprocess.run(
            [*child, *map(str, files[len(answers) :])],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        answers += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode:
            answers.append(f"aborted: {done.stderr[-600:]}")
    return answers


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number][0]}")
def test_cache_and_state_are_what_llama_cpp_allocates(number: int, files: list[Path], engine: list[object]) -> None:
    allocated = engine[number]
    assert isinstance(allocated, list), allocated
    ours = shape(read_file(files[number]))
    cells = -(-min(N_CTX, (ours.window or 0) + N_UBATCH) // 256) * 256
    expected = (ours.kv_width * N_CTX + ours.kv_window_width * cells) * F16_BYTES + ours.state_bytes
    assert sum(mib for mib, _ in allocated) == pytest.approx(expected / MIB, abs=0.0051 * max(len(allocated), 1))
