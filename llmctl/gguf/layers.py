"""Which layers cache every token, which a window of them, and which keep a recurrent state: tables by architecture.

A header says most of it in numbers; what it leaves out, llama.cpp knows by architecture, and so must we. Source of
every row: ``load_arch_hparams`` in src/models/<architecture>.cpp and ``create_memory`` in src/llama-model.cpp of
llama.cpp at 0c1e570, 2026-10. An architecture in no table caches every token in every layer: never too little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from llmctl.errors import IntegrityError
from llmctl.types.header import Header

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_FIGURE = (1 << 32) - 1  # llama.cpp reads hyperparameters as 32-bit numbers


class Figures:
    """The hyperparameters of one header, by key without the architecture's prefix. Raises IntegrityError for a value
    that is no number, or too large."""

    def __init__(self, header: Header) -> None:
        self.architecture = header.architecture
        self._metadata = header.metadata

    def find(self, key: str) -> int | None:
        """A whole number, or None where the header has none (or has one per layer)."""
        value = self._metadata.get(f"{self.architecture}.{key}")
        return None if value is None or isinstance(value, tuple) else self._figure(key, value)

    def number(self, key: str, default: int) -> int:
        value = self.find(key)
        return default if value is None else value

    def required(self, key: str) -> int:
        """A figure that no model can do without, nor have as 0: much is divided by it."""
        value = self.find(key)
        if not value:
            stated = "no" if value is None else "0 as"
            raise IntegrityError(f"has {stated} {self.architecture}.{key} in its header: not a language model")
        return value

    def per_layer(self, key: str, n_layer: int, default: Sequence[int]) -> Sequence[int]:
        """One number for each layer; where the header has a single one, it goes for all."""
        values = self.array(key)
        if values is None:
            value = self.find(key)
            return default if value is None else (value,) * n_layer
        if len(values) < n_layer:
            raise IntegrityError(f"has {len(values)} values of {self.architecture}.{key} for {n_layer} layers")
        return values[:n_layer]

    def array(self, key: str) -> tuple[int, ...] | None:
        value = self._metadata.get(f"{self.architecture}.{key}")
        return tuple(self._figure(key, element) for element in value) if isinstance(value, tuple) else None

    def _figure(self, key: str, value: object) -> int:
        if isinstance(value, int) and 0 <= value <= MAX_FIGURE:
            return int(value)
        raise IntegrityError(f"has {str(value)[:40]!r} as {self.architecture}.{key}, not a number up to {MAX_FIGURE}")


ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
    }
)
"""Encoders: they read a text once, and have no cache and no output head."""

ENCODERS_WITH_HEAD = frozenset({"gemma-embedding"})
"""Encoders for which the token table is loaded as an output head as well, though nothing is multiplied with it."""

DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
"""Diffusion models: they rewrite the whole text at every step, and have no cache either."""

SHARED_TABLE = frozenset({"bitnet"})
"""Without an output head these multiply with the token table in place; other graphs have a copy of it."""

KV_LAYERS: Mapping[str, int] = {"gemma3n": 20}
"""How many layers, from the first, have keys and values of their own; the others share them."""


class Windows(Struct, frozen=True):
    """Every ``period``-th layer attends to all tokens (the first of each period with ``full_first``), the others to a
    window; with period 1 all attend to everything, with 0 none does, unless the header has its own pattern.

    The window is ``default`` where the header names none, and ``forced`` (if any) whatever size the header names.
    """

    period: int
    full_first: bool = False
    default: int = 0
    forced: int = 0


WINDOWS: Mapping[str, Windows] = {
    "afmoe": Windows(4),
    "cohere2": Windows(4),
    "cohere2moe": Windows(4, full_first=True),
    "deepseek4": Windows(0),
    "dots3note": Windows(1),
    "exaone-moe": Windows(4, default=128),
    "exaone4": Windows(4, default=4096),
    "gemma2": Windows(2, default=4096),
    "gemma3": Windows(6),
    "gemma3n": Windows(5),
    "gemma4": Windows(1),
    "gpt-oss": Windows(2),
    "granite_swa": Windows(1),
    "laguna": Windows(4, full_first=True),
    "lfm2": Windows(0),
    "llama4": Windows(4, default=8192, forced=8192),  # attends in chunks; the cache is sized as for a window
    "maple": Windows(1),
    "mellum": Windows(4),
    "mimo2": Windows(1),
    "muse-glimmer": Windows(4),
    "olmo2": Windows(4),
    "plamo3": Windows(8),
    "smallthinker": Windows(4, full_first=True, forced=4096),
    "spark2_5": Windows(1),
    "step35": Windows(1),
}
"""Architectures for which llama.cpp heeds a window. phi3 and mistral files may name one: it doesn't heed those."""

EXAONE4_WINDOWED_LAYERS = 64  # only the 32B model is built with windows


def window(figures: Figures, n_layer: int) -> int:
    """Tokens that windowed layers see; 0 if there is no such layer."""
    rule = WINDOWS.get(figures.architecture)
    if rule is None or (figures.architecture == "exaone4" and n_layer != EXAONE4_WINDOWED_LAYERS):
        return 0
    named = figures.find("attention.sliding_window")
    if named is None:
        return rule.default
    return rule.forced or named if named else 0


def windowed_layers(figures: Figures, n_layer: int) -> Sequence[bool]:
    """For each layer, whether it sees only a window."""
    if not window(figures, n_layer):
        return (False,) * n_layer
    pattern = figures.array("attention.sliding_window_pattern")
    if pattern is not None:
        return [bool(flag) for flag in pattern[:n_layer]] + [False] * (n_layer - len(pattern))
    rule = WINDOWS[figures.architecture]
    period = figures.number("attention.sliding_window_pattern", rule.period)
    full = 0 if rule.full_first else period - 1
    return [period == 0 or layer % period != full for layer in range(n_layer)]


class Layers(StrEnum):
    """Which layers are recurrent: all; all, beside a cache of their own; those without key heads; all but every
    ``period``-th, unless the header has its own list."""

    ALL = "all"
    BESIDE = "beside"
    HEADLESS = "headless"
    PERIODIC = "periodic"


class StateKind(StrEnum):
    """The kind of state that a recurrent layer keeps; ``state_elements`` has a formula for each."""

    SELECTIVE = "selective"  # Mamba, and the gated delta net, which llama.cpp describes by the same figures
    WKV = "wkv"  # RWKV
    CONVOLUTION = "convolution"  # LFM2
    DELTA = "delta"  # Kimi delta attention
    LIGHTNING = "lightning"  # MiniMax-01


class Recurrence(Struct, frozen=True):
    layers: Layers
    state: StateKind = StateKind.SELECTIVE
    period: int = 0


RECURRENCES: Mapping[str, Recurrence] = {
    "arwkv7": Recurrence(Layers.ALL, StateKind.WKV),
    "bailingmoe3": Recurrence(Layers.HEADLESS, StateKind.DELTA),
    "falcon-h1": Recurrence(Layers.BESIDE),
    "glm5-next": Recurrence(Layers.HEADLESS, StateKind.DELTA),
    "granitehybrid": Recurrence(Layers.HEADLESS),
    "jamba": Recurrence(Layers.HEADLESS),
    "kimi-k3": Recurrence(Layers.HEADLESS, StateKind.DELTA),
    "kimi-linear": Recurrence(Layers.HEADLESS, StateKind.DELTA),
    "lfm2": Recurrence(Layers.HEADLESS, StateKind.CONVOLUTION),
    "lfm2moe": Recurrence(Layers.HEADLESS, StateKind.CONVOLUTION),
    "mamba": Recurrence(Layers.ALL),
    "mamba2": Recurrence(Layers.ALL),
    "minimax-01": Recurrence(Layers.PERIODIC, StateKind.LIGHTNING, period=8),
    "nemotron_h": Recurrence(Layers.HEADLESS),
    "nemotron_h_moe": Recurrence(Layers.HEADLESS),
    "plamo2": Recurrence(Layers.HEADLESS),
    "qwen35": Recurrence(Layers.PERIODIC, period=4),
    "qwen35moe": Recurrence(Layers.PERIODIC, period=4),
    "qwen3next": Recurrence(Layers.PERIODIC, period=4),
    "qwen4exp": Recurrence(Layers.PERIODIC, period=4),
    "rwkv6": Recurrence(Layers.ALL, StateKind.WKV),
    "rwkv6qwen2": Recurrence(Layers.ALL, StateKind.WKV),
    "rwkv7": Recurrence(Layers.ALL, StateKind.WKV),
}

FEED_FORWARD_LAYERS = frozenset({"nemotron_h", "nemotron_h_moe"})
"""Layers without key heads but with a feed-forward width are neither recurrent nor attending."""


def recurrent_layers(figures: Figures, n_layer: int, n_head_kv: Sequence[int], n_ff: Sequence[int]) -> Sequence[bool]:
    """For each layer, whether it keeps a recurrent state."""
    rule = RECURRENCES.get(figures.architecture)
    if rule is None:
        return (False,) * n_layer
    if rule.layers is Layers.HEADLESS:
        idle = n_ff if figures.architecture in FEED_FORWARD_LAYERS else (0,) * n_layer
        return [heads == 0 and width == 0 for heads, width in zip(n_head_kv, idle, strict=True)]
    if rule.layers is not Layers.PERIODIC:
        return (True,) * n_layer
    if figures.array("attention.recurrent_layers") is not None:
        return [bool(flag) for flag in figures.per_layer("attention.recurrent_layers", n_layer, ())]
    period = figures.number("full_attention_interval", 0) or rule.period
    return [(layer + 1) % period != 0 for layer in range(n_layer)]


def state_elements(figures: Figures, n_embd: int, n_head: int) -> int:
    """Elements of state that one recurrent layer keeps for one sequence, all 32-bit floats in llama.cpp.

    Source: ``n_embd_r`` (what a convolution or token shift looks back at) plus ``n_embd_s`` (the state proper) in
    src/llama-hparams.cpp.
    """
    rule = RECURRENCES.get(figures.architecture)
    if rule is None:
        return 0
    lookback = max(figures.number("ssm.conv_kernel", 0) - 1, 0)
    match rule.state:
        case StateKind.WKV:
            return n_embd * (figures.number("token_shift_count", 2) + figures.number("wkv.head_size", 0))
        case StateKind.CONVOLUTION:
            return n_embd * max(figures.number("shortconv.l_cache", 0) - 1, 0)
        case StateKind.DELTA:
            head = figures.number("kda.head_dim", 0)
            return n_head * head * (3 * lookback + head)
        case StateKind.LIGHTNING:
            return n_head * figures.number("attention.key_length", n_embd // max(n_head, 1)) ** 2
        case StateKind.SELECTIVE:
            inner, size = figures.number("ssm.inner_size", 0), figures.number("ssm.state_size", 0)
            return lookback * (inner + 2 * figures.number("ssm.group_count", 0) * size) + size * inner


INDEXED = frozenset({"deepseek32", "dots3note", "glm-dsa", "glm5-next", "hy_v4", "minimax-m3", "qwen4exp"})
"""Sparse attention: an indexer picks the tokens to attend to, and caches keys of its own."""


def indexer_widths(figures: Figures, n_layer: int, value_length: int) -> Sequence[int]:
    """Elements that the indexer of each layer caches per token.

    One key head; with it a gate and a pooled key where keys are pooled, or the value head (of ``value_length``) that
    minimax-m3 carries along. Source: src/llama-kv-cache-dsa.cpp, -msa.cpp and src/llama-memory-hybrid-idx.cpp.
    """
    if figures.architecture not in INDEXED:
        return (0,) * n_layer
    first, width = 0, figures.number("attention.indexer.key_length", 0)
    if figures.number("attention.indexer.kpool", 0):
        width *= 3
    if figures.architecture == "minimax-m3":
        first = figures.number("leading_dense_block_count", 0)
        width += value_length
    owners = figures.per_layer("attention.indexer.types", n_layer, (1,) * n_layer)
    return [width if layer >= first and owner else 0 for layer, owner in enumerate(owners)]
