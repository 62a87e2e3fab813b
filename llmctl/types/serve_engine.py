"""What runs the models behind a gateway."""

from __future__ import annotations

from enum import StrEnum


class ServeEngine(StrEnum):
    """llama.cpp a model's GGUF files, or vLLM its original weights."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
