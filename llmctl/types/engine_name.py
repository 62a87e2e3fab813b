"""The engines by the names that they are asked for."""

from __future__ import annotations

from enum import StrEnum


class EngineName(StrEnum):
    """What may be asked for by name."""

    LLAMA_CPP = "llama-cpp"
    LLAMA_SERVER = "llama-server"
