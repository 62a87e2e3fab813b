"""The models behind one address of ours: what each is, and whether it is loaded."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ServeEngine(StrEnum):
    """What runs the models behind a gateway: llama.cpp's GGUF files, or vLLM a model's original weights."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"


class ModelState(StrEnum):
    """``FAILED``: it could not be loaded the last time; the next request tries again."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


class ServedModel(Struct, frozen=True):
    """A model that may be asked for by ``name``. ``tasks`` are those it is asked for by ``auto:TASK``; ``users``: how
    many requests it answers at once, each of ``context`` tokens; ``memory_bytes`` as planned; ``in_use`` and
    ``waiting`` count requests. ``pinned``: it is never unloaded."""

    name: str
    quant: str
    tasks: tuple[str, ...]
    context: int
    users: int
    memory_bytes: int
    state: ModelState = ModelState.UNLOADED
    in_use: int = 0
    waiting: int = 0
    pinned: bool = False
    writes: bool = True


class Health(Struct, frozen=True):
    """``ready``: requests are answered, or loaded for; ``loading`` are names."""

    ready: bool
    loading: tuple[str, ...]
    draining: bool
