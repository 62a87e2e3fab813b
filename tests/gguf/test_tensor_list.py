"""The tensors that architectures can't do without, against files of real models and against the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.engine.devices import engines
from llmctl.engine.llama_cpp.dry_run import refusal
from llmctl.gguf.tensor_list import DENSE, REQUIRED, problem
from llmctl.host import Host
from llmctl.types.header import Header
from tests.fakes import gguf_file, real_tensors
from tests.fakes.gguf_file import Fill
from tests.fakes.real_shapes import models

NAMES = [
    name
    for name, metadata in models().items()
    if metadata["general.architecture"] in real_tensors.LAYERS and name not in ("gemma4-e2b", "gemma4-e4b")
]


def known(name: str) -> Header:
    return real_tensors.header(name, "Q4_K_M")


@pytest.mark.parametrize("name", NAMES)
def test_files_of_real_models_lack_nothing(name: str) -> None:
    assert problem(known(name)) is None


@pytest.mark.parametrize("name", ["llama-3.2-1b", "qwen3moe-30b", "gpt-oss-20b", "gemma3-1b", "phi3-mini", "gpt2"])
def test_each_of_them_is_missed(name: str) -> None:
    header = known(name)
    for part in REQUIRED[header.architecture].split():
        gone = f"blk.1.{part}.weight"
        left = tuple(tensor for tensor in header.tensors if tensor.name != gone)
        dense = part in DENSE and bool(header.metadata.get(f"{header.architecture}.expert_count"))
        assert dense or problem(replace(header, tensors=left)) == f"it has no tensor {gone}"


def test_what_the_engine_does_without_is_not_missed(tmp_path: Path) -> None:
    """Queries, keys and values in one tensor, and an output head that is the token table."""
    metadata = {**models()["qwen3-0.6b"], "tokenizer.ggml.model": "no_vocab"}
    tensors = real_tensors.tensors("qwen3-0.6b", "F16")
    fused = [tensor for tensor in tensors if not tensor.name.endswith((".attn_k.weight", ".attn_v.weight"))]
    fused = [
        tensor._replace(name=tensor.name.replace("attn_q.", "attn_qkv."), shape=(1024, 4096))
        if tensor.name.endswith(".attn_q.weight")
        else tensor
        for tensor in fused
    ]
    assert problem(header_of(metadata, fused)) is None
    file = gguf_file.write(tmp_path / "fused.gguf", metadata, fused, fill=Fill.SPARSE)
    assert refusal(Host(), engines(Host())[0], file) is None


def header_of(metadata: dict[str, Any], tensors: Sequence[gguf_file.TensorSpec]) -> Header:
    plain = known("qwen3-0.6b")
    table = tuple(replace(plain.tensors[0], name=tensor.name, shape=tensor.shape) for tensor in tensors)
    return replace(plain, metadata=metadata, tensors=table)


def test_of_an_architecture_that_is_not_in_the_table_nothing_is_said() -> None:
    assert problem(replace(known("llama-3.2-1b"), architecture="new", tensors=())) is None
