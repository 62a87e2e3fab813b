"""The engines by the names that they are asked for."""

from __future__ import annotations

from enum import StrEnum


class EngineName(StrEnum):
    """What may be asked for by name."""

    LLAMA_CPP = "llama-cpp"
    LLAMA_SERVER = "llama-server"


class BuildName(StrEnum):
    """What a build of llama-cpp-python computes on."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"


INSTALLED = "installed"
"""The name of the build that was installed with llmctl, for this Python."""
