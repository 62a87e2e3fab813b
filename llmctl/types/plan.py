"""What will run, where, how much memory it takes and how fast it will be: the planner's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from llmctl.types.model import Candidate


class Basis(StrEnum):
    """How a speed was arrived at: this model ran here; the engine's kernels were measured here; from figures."""

    MEASURED = "measured"
    CALIBRATED = "calibrated"
    MODELLED = "modelled"


@dataclass(frozen=True, slots=True)
class Want:
    """What is asked for. None means: the task's or the model's default decides.

    ``context`` tokens; ``min_tok_s`` the decode floor; ``task`` a name from ``profiles/tasks.toml``;
    ``prompt_tokens`` the length, estimated if need be, that must fit and that the time to first token is told for;
    ``explicit`` that the candidates are what the user named: what fits is then taken, a missed floor is a warning.
    """

    task: str = "chat"
    context: int | None = None
    min_tok_s: float | None = None
    max_download_bytes: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    prompt_tokens: int = 256
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings of llama.cpp that decide what a model takes.

    ``context`` tokens for each of ``sequences``; ``ubatch`` tokens are computed at once; ``kv_type`` is ggml's name of
    the KV cache's type (f16, q8_0, q4_0; another than f16 takes ``flash_attention``); ``swa_full`` keeps a cache of
    the whole context for layers with a window, too; ``repack`` lets the CPU's kernels make their copy of weights.
    """

    context: int
    kv_type: str = "f16"
    flash_attention: bool = False
    ubatch: int = 512
    swa_full: bool = False
    sequences: int = 1
    repack: bool = True
    gpu_layers: int = 0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What the engine itself says it would allocate, in bytes, to a hundredth of a MiB. ``compute_bytes`` by the
    engine's name of the buffer (CPU, CUDA0, CUDA_Host)."""

    kv_bytes: int
    state_bytes: int
    output_bytes: int
    compute_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes on one device, as they have to be in memory while decoding: the columns add up to ``total_bytes``.

    ``repacked_bytes`` is the second, anonymous copy that CPU kernels make of some weights; ``weights_bytes`` are the
    others. ``compute_bytes`` includes the buffer for the output. ``available_bytes`` is free memory, margin included.
    """

    device: str
    weights_bytes: int
    repacked_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``must_fit_bytes`` is anonymous or device memory; ``mapped_bytes`` is the file, which can be reclaimed."""

    by_device: tuple[DeviceMemory, ...]
    must_fit_bytes: int
    mapped_bytes: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second with the range that should hold four times in five; ``first_token_s`` for the wanted prompt."""

    decode_tok_s: float
    decode_low_tok_s: float
    decode_high_tok_s: float
    prefill_tok_s: float
    first_token_s: float
    basis: Basis


@dataclass(frozen=True, slots=True)
class Fit:
    """A candidate that fits, with the settings it is to be run with.

    ``thinking``: the chat template is to be told so (``enable_thinking``), quality and speed count on it.
    ``quality`` is the index of ``planner.quality`` after the loss by quantization, None where nothing was published;
    ``warnings`` what an explicit wish costs (a floor that is missed).
    """

    candidate: Candidate
    context: int
    kv_type: str
    gpu_layers: int
    threads: int
    memory: MemoryPlan
    speed: Speed
    download_bytes: int
    download_s: float | None
    reasons: tuple[str, ...]
    thinking: bool = False
    quality: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that was not chosen. ``model`` is the id, ``name`` what people call it; ``short_by_bytes`` only where
    memory is what is missing. ``reason`` goes on from "NAME QUANT"."""

    model: str
    quant: str
    reason: str
    short_by_bytes: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.name or self.model} {self.quant} {self.reason}"


@dataclass(frozen=True, slots=True)
class Plan:
    """``choice`` is the best; ``picks`` names the three a person chooses among (best, balanced, fastest)."""

    choice: Fit
    alternatives: tuple[Fit, ...]
    rejected: tuple[Rejected, ...]
    picks: Mapping[str, Fit]


@dataclass(frozen=True, slots=True)
class NoFit:
    """Nothing fits. ``nearest`` is the candidate with the smallest gap."""

    reason: str
    rejected: tuple[Rejected, ...]
    nearest: Rejected | None
