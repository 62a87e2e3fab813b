"""What ran here before, as far as it teaches how fast the next run will be, and what was picked before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from llmctl.types.model import Candidate


class PastRun(Struct, frozen=True):
    """A run on this machine with the engine build that it has now, which other programs did not disturb.

    ``decode`` and ``prefill`` are the measured rates over those that the planner predicts for the same lengths without
    corrections; None where too little was read or written. ``depth`` is how many tokens the context held on average
    while it wrote, ``read_tokens`` how many of the prompt were computed; ``modelled``: the prediction came from rates
    that nobody had measured here. ``load_s`` is the time until the engine
    answered. The file is identified by its size and its sha256 (None where it is not known).
    The settings are those of ``Configuration`` and ``Fit`` that change the speed. ``accepted_tokens`` of
    ``drafted_tokens`` were right, ``compared_tokens`` are those up to the first wrong one of each draft; ``draft`` is
    the model that drafted them, None where they were copied from the prompt. ``date`` is UTC in ISO 8601.
    """

    model: str
    quant: str
    file_bytes: int | None
    sha256: str | None
    kv_type: str
    gpu_layers: int
    repack: bool
    flash_attention: bool
    threads: int
    prefill_threads: int
    decode: float | None
    prefill: float | None
    load_s: float
    depth: float
    read_tokens: int
    modelled: bool
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    compared_tokens: int = 0
    draft: str | None = None
    date: str = ""


class LastPick(Struct, frozen=True):
    """What was picked when the same was asked for before, on ``date`` (2026-11-30)."""

    model: str
    quant: str
    date: str

    def is_of(self, candidate: Candidate) -> bool:
        return (candidate.model.id, candidate.artifact.quant) == (self.model, self.quant)
