"""The models behind one address of ours: what each is, and whether it is loaded."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from llmctl.types.openness import Level


class ModelState(StrEnum):
    """``FAILED``: it could not be loaded the last time; the next request tries again."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


class ServedModel(Struct, frozen=True):
    """A model that may be asked for by ``name``. ``tasks`` are those it is asked for by ``auto:TASK``; ``users``: how
    many requests it answers at once, each of ``context`` tokens; ``memory_bytes`` as planned; ``in_use`` and
    ``waiting`` count requests. ``pinned``: it is never unloaded. ``size_bytes`` are those of its file; ``decode_tok_s``
    is how fast it is expected to answer one request; ``openness``: None where nobody has graded it, or it is none."""

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
    size_bytes: int = 0
    decode_tok_s: float | None = None
    openness: Level | None = None
    licence: str | None = None


class Health(Struct, frozen=True):
    """``ready``: requests are answered, or loaded for; ``loading`` are names."""

    ready: bool
    loading: tuple[str, ...]
    draining: bool
