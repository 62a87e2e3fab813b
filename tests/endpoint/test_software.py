"""Programs by what their lists of models show; the lists are cut from what each of them sends."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.endpoint.software import context_of, software_of

M: dict[str, Any] = {"id": "m", "object": "model", "created": 1764500000}
ENVOY, UVICORN, LLAMA = {"Server": "istio-envoy"}, {"server": "uvicorn"}, {"Server": "llama.cpp"}
META = {"vocab_type": 2, "n_vocab": 49152, "n_ctx_train": 8192}

ROWS: list[tuple[dict[str, str], dict[str, Any], str | None, int | None]] = [
    (UVICORN, {**M, "owned_by": "vllm", "root": "m", "max_model_len": 32768}, "vLLM", 32768),
    (ENVOY, {**M, "owned_by": "vllm", "max_model_len": 8192}, "vLLM behind an Envoy gateway, as llm-d has it", 8192),
    (UVICORN, {**M, "owned_by": "sglang", "max_model_len": 4096}, "SGLang", 4096),
    (UVICORN, {**M, "owned_by": "organization-owner", "rayllm_metadata": {}}, "Ray Serve", None),
    ({"X-LiteLLM-Version": "1.80"}, {**M, "owned_by": "openai"}, "LiteLLM", None),
    ({}, {**M, "owned_by": "library"}, "ollama", None),
    ({}, {**M, "owned_by": "organization_owner"}, "LM Studio", None),
    ({}, {**M, "created": 0, "owned_by": "m"}, "Text Generation Inference", None),
    (LLAMA, {**M, "owned_by": "llamacpp", "meta": {**META, "n_ctx": 4096}}, "llama-server", 4096),
    ({}, {**M, "owned_by": "llamacpp", "meta": META}, "llama-server", None),
    (UVICORN, {**M, "owned_by": "me", "permissions": []}, "llama-cpp-python's server", None),
    (UVICORN, {**M, "owned_by": "llmctl", "context_length": 8192}, "llmctl", 8192),
    (UVICORN, {**M, "owned_by": "somebody"}, None, None),
    ({}, {**M, "owned_by": ["vllm"], "max_model_len": "many"}, None, None),
    ({}, {**M, "max_model_len": -1, "meta": "x"}, None, None),
]


@pytest.mark.parametrize(("headers", "entry", "name", "context"), ROWS, ids=lambda value: str(value)[:30])
def test_programs(headers: dict[str, str], entry: dict[str, Any], name: str | None, context: int | None) -> None:
    listed = {"object": "list", "data": [entry]}
    made = software_of(headers, listed)
    assert (None if made is None else made.name) == name
    assert context_of(listed, "m") == context
    assert context_of(listed, "another") is None


@pytest.mark.parametrize("listed", [None, [], {}, {"data": None}, {"data": [None, "x"]}, {"data": {"id": "m"}}])
def test_what_is_no_list(listed: object) -> None:
    assert software_of({}, listed) is None
    assert context_of(listed, "m") is None
