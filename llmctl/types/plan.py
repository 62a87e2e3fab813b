"""What will run, where, how much memory it takes and how fast it will be: the planner's answer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from llmctl.types.engine import NativeServer
from llmctl.types.grade import Grade
from llmctl.types.model import Candidate
from llmctl.types.speed_model import SpeedModel

F16, Q8_0, Q4_0 = "f16", "q8_0", "q4_0"
KV_TYPES = (F16, Q8_0, Q4_0)
UBATCH = 512  # llama.cpp's own


class MemoryBasis(StrEnum):
    """Who says how much memory: the engine itself, asked on this machine; or our own formulas."""

    ENGINE = "engine"
    ANALYTIC = "analytic"


CPU = "cpu"  # the device that is none: the machine's own memory and cores


class Basis(StrEnum):
    """How a speed was arrived at: this model ran here; the engine's kernels were measured here; from figures."""

    MEASURED = "measured"
    CALIBRATED = "calibrated"
    MODELLED = "modelled"


class Want(Struct, frozen=True):
    """What is asked for. None means: the task's or the model's default decides.

    ``context`` tokens; ``min_tok_s`` the decode floor; ``task`` a name from ``profiles/tasks.toml``;
    ``prompt_tokens`` the length, estimated if need be, that must fit and that the time to first token is told for,
    ``answer_tokens`` what will be written; settings are chosen for both.
    ``explicit`` that the candidates are what the user named: what fits is then taken, a missed floor is a warning.
    ``kv_type`` of KV_TYPES; ``gpu_layers`` as in ``Configuration``, -1 for all; ``threads`` for decoding and prefill;
    ``repack`` and ``flash_attention`` as in ``Configuration``. ``users`` is how many requests are to be answered at
    once, each with a context of its own.
    ``language`` by its code (it); ``openness`` a level of ``catalogue.openness``; ``licence`` an SPDX identifier;
    ``installed`` only what is on this machine; ``tight`` that no room need be left for other programs;
    ``architectures`` those that the installed engine can load, None if that isn't known; ``sees`` that the prompt has
    images, whatever the task.
    """

    task: str = "chat"
    context: int | None = None
    kv_type: str | None = None
    min_tok_s: float | None = None
    max_download_bytes: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    explicit: bool = False
    repack: bool | None = None
    flash_attention: bool | None = None
    language: str | None = None
    openness: str | None = None
    licence: str | None = None
    installed: bool = False
    tight: bool = False
    architectures: frozenset[str] | None = None
    sees: bool = False
    users: int = 1


class Configuration(Struct, frozen=True):
    """The settings of llama.cpp that decide what a model takes.

    ``context`` tokens for each of ``sequences``; ``ubatch`` tokens are computed at once; ``kv_type`` is ggml's name of
    the KV cache's type (f16, q8_0, q4_0; another than f16 takes ``flash_attention``); ``swa_full`` keeps a cache of
    the whole context for layers with a window, too; ``repack`` lets the CPU's kernels make their copy of weights.

    ``gpu_layers`` counts as llama.cpp does: the output head is one of them and goes first, then the last layer, and so
    on. ``layers_per_device`` says how many of them go to each of the engine's devices, in its order; it is empty where
    there is but one. Of ``cpu_expert_layers`` layers, from the first, the experts stay on the CPU (--n-cpu-moe).
    """

    context: int
    kv_type: str = F16
    flash_attention: bool = False
    ubatch: int = UBATCH
    swa_full: bool = False
    sequences: int = 1
    repack: bool = True
    gpu_layers: int = 0
    layers_per_device: tuple[int, ...] = ()
    cpu_expert_layers: int = 0


class Allocation(Struct, frozen=True):
    """What the engine itself says it would allocate, in bytes, to a hundredth of a MiB. ``compute_bytes`` by the
    engine's name of the buffer (CPU, CUDA0, CUDA_Host)."""

    kv_bytes: int
    state_bytes: int
    output_bytes: int
    compute_bytes: Mapping[str, int]


class DeviceMemory(Struct, frozen=True):
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


class MemoryPlan(Struct, frozen=True):
    """What a model takes in memory, in bytes.

    ``must_fit_bytes``: anonymous, pinned and device memory. ``mapped_bytes``: pages of the file on the CPU, which the
    system may drop and read again. ``touched_bytes``: the vocabulary, and the part of ``must_fit_bytes`` that reading
    prompts writes to; the rest is reserved for logits of a whole batch, of which only the last token's are made. If the
    vocabulary is larger than that rest, ``must_fit_bytes`` is ``touched_bytes``. ``basis``: from the engine or from the
    formulas; ``analytic_must_fit_bytes``: the formulas' result where the engine was asked.
    """

    by_device: tuple[DeviceMemory, ...]
    must_fit_bytes: int
    mapped_bytes: int
    touched_bytes: int = 0
    basis: MemoryBasis = MemoryBasis.ANALYTIC
    analytic_must_fit_bytes: int | None = None

    @property
    def disagreement(self) -> float:
        """How far the formulas are off the engine, as a share of what it says; 0 where it was not asked."""
        if self.analytic_must_fit_bytes is None:
            return 0.0
        return abs(self.analytic_must_fit_bytes - self.must_fit_bytes) / max(self.must_fit_bytes, 1)


class Speed(Struct, frozen=True):
    """Tokens per second with the range that should hold four times in five; ``first_token_s`` for the wanted prompt,
    once the model is loaded, which takes ``load_s`` (None where nothing tells). ``together_tok_s`` is what all answers
    have together while as many are written as the plan has sequences; None where that is one."""

    decode_tok_s: float
    decode_low_tok_s: float
    decode_high_tok_s: float
    prefill_tok_s: float
    prefill_low_tok_s: float
    prefill_high_tok_s: float
    first_token_s: float
    basis: Basis
    load_s: float | None = None
    together_tok_s: float | None = None
    together_low_tok_s: float | None = None
    together_high_tok_s: float | None = None


class Tried(Struct, frozen=True):
    """Settings that were considered, and the seconds that the expected prompt and answer would take with them."""

    configuration: Configuration
    must_fit_bytes: int
    task_s: float


class Draft(Struct, frozen=True):
    """A smaller model that guesses how the one that answers goes on (``engine.llama_cpp.draft_model``), with the
    settings of its one sequence. ``gain`` is how many times as fast an answer is expected to be written then, with
    drafts of ``count`` tokens. ``is_asked_for``: by its name, so that it drafts whatever the sampling is."""

    candidate: Candidate
    configuration: Configuration
    count: int
    gain: float
    is_asked_for: bool = False


class Fit(Struct, frozen=True):
    """A candidate that fits, with the settings it is to be run with.

    ``threads`` decode, ``prefill_threads`` read the prompt. ``speed`` is that of the expected prompt and answer,
    ``speed_model`` gives it for any prompt, ``uncorrected`` is the same without what was learned from runs; where
    ``modelled``, rates that nobody measured here are part of it. ``tried``
    are the settings that were considered, the fastest first, where it was not said which to take.
    ``thinking``: the chat template is to be told so (``enable_thinking``), quality and speed count on it.
    ``grade`` is how good it is said to be after the loss by quantization, None where nothing was published;
    ``quantization_loss`` is that loss alone, known of every file; ``warnings`` what an explicit wish costs (a floor
    that is missed). ``server`` is the llama-server that answers in place of the worker with llama-cpp-python. ``draft``
    is loaded with it; ``memory`` counts it. ``drafts_itself``: by the heads that its file has for that.
    """

    candidate: Candidate
    configuration: Configuration
    threads: int
    prefill_threads: int
    memory: MemoryPlan
    speed: Speed
    speed_model: SpeedModel
    uncorrected: SpeedModel
    download_bytes: int
    download_s: float | None
    reasons: tuple[str, ...]
    thinking: bool = False
    grade: Grade | None = None
    quantization_loss: float = 0.0
    warnings: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    modelled: bool = False
    server: NativeServer | None = None
    draft: Draft | None = None
    drafts_itself: bool = False

    @property
    def quality(self) -> float | None:
        return None if self.grade is None else self.grade.index

    @property
    def context(self) -> int:
        return self.configuration.context

    @property
    def kv_type(self) -> str:
        return self.configuration.kv_type

    @property
    def gpu_layers(self) -> int:
        return self.configuration.gpu_layers


class RejectionCode(StrEnum):
    """Why a candidate is not chosen. ``ENGINE``: the installed engine can't load it; ``ROOM``: it fits, in memory that
    is kept for other programs; ``BEATEN``: it fits, and another one is better. The others name the limit of ``Want`` or
    of its task that is missed."""

    TASK = "task"
    QUALITY = "quality"
    ENGINE = "engine"
    LANGUAGE = "language"
    OPENNESS = "openness"
    LICENCE = "licence"
    INSTALLED = "installed"
    DOWNLOAD = "download"
    CONTEXT = "context"
    ROOM = "room"
    MEMORY = "memory"
    SPEED = "speed"
    BEATEN = "beaten"


class Rejected(Struct, frozen=True):
    """A candidate that was not chosen. ``model`` is the id, ``name`` what people call it; ``short_by_bytes`` only where
    memory is what is missing. ``reason`` is the code in words, to go on from "NAME QUANT"."""

    model: str
    quant: str
    code: RejectionCode
    reason: str
    short_by_bytes: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.name or self.model} {self.quant} {self.reason}"


class Change(Struct, frozen=True):
    """What would change the choice: ``condition`` ("with 6 GB more memory") would make it ``fit``."""

    condition: str
    fit: Fit


class Plan(Struct, frozen=True):
    """``choice`` is the best; ``picks`` names the three a person chooses among (best, balanced, fastest); ``changes``
    are what would give something better."""

    choice: Fit
    alternatives: tuple[Fit, ...]
    rejected: tuple[Rejected, ...]
    picks: Mapping[str, Fit]
    changes: tuple[Change, ...] = ()


class NoFit(Struct, frozen=True):
    """Nothing fits. ``nearest`` is the candidate with the smallest gap."""

    reason: str
    rejected: tuple[Rejected, ...]
    nearest: Rejected | None
