"""One GGUF file on this machine: where it is, what is known of it, and whose it is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from llmctl.types.model import Source


class Owner(StrEnum):
    """Which tool keeps a file. The hub cache is shared by all tools of the hub, and llmctl writes to it as they do."""

    LLMCTL = "llmctl"
    HUB_CACHE = "hub_cache"
    OLLAMA = "ollama"
    LM_STUDIO = "lm_studio"
    LLAMA_CPP = "llama_cpp"

    @property
    def label(self) -> str:
        return {"hub_cache": "hub cache", "lm_studio": "LM Studio", "llama_cpp": "llama.cpp"}.get(self, self.value)

    @property
    def foreign(self) -> bool:
        """Whether llmctl may only read what is there."""
        return self in (Owner.OLLAMA, Owner.LM_STUDIO, Owner.LLAMA_CPP)


class Stored(Struct, frozen=True):
    """``source`` holds what the owner's store itself tells, and None for what it doesn't; it is of the hub where the
    repository is known. ``name`` is what the owner calls the model: ``org/name``, ``llama3.2:1b``. A ``projector``
    goes beside a model that sees or hears. ``vouched`` is whether the sha256 is the publisher's word, and not only what
    a folder said or what the bytes had when they came."""

    path: Path
    bytes: int
    source: Source
    owner: Owner = Owner.HUB_CACHE
    name: str = ""
    projector: bool = False
    vouched: bool = True
