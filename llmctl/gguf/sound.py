"""Checks that a header's figures fit together, as llama.cpp does before it loads a file, as far as a header alone can
tell.

Where the engine is here it is asked (``engine.refusal``), and knows more. Sources: ``load_hparams`` and ``load_vocab``
in src/llama-model.cpp and src/llama-vocab.cpp of llama.cpp at 0c1e570, 2026-10; all its architectures create
``token_embd.weight`` as embedding length x tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from llmctl.errors import IntegrityError
from llmctl.gguf.kind import WITHOUT_TOKENIZER
from llmctl.gguf.layers import RECURRENCES, Figures, StateKind
from llmctl.gguf.shape import BLOCK, TOKEN_TABLE
from llmctl.types.header import Header

HINT = "fetch it again; if that changes nothing it was converted wrongly: choose another file of this model"

MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
TURNS_WHOLE_HEADS = frozenset({"deci", "falcon", "llama", "llama-embed"})
"""Architectures whose rope turns all of a head's elements."""

MAY_HAVE_EMPTY_LAYERS = frozenset({"deci"})
MAY_LACK_EXPERTS_USED = frozenset({"hunyuan-dense", "hunyuan_vl"})  # one expert counts as none there
WITHOUT_EPSILON = frozenset(name for name, rule in RECURRENCES.items() if rule.state is StateKind.WKV)


def require_sound(header: Header) -> None:
    """Raises IntegrityError, its message without the subject, where ``header`` contradicts itself or lacks what every
    model needs. ``header`` is that of all parts together, and that of a language model."""
    for check in CHECKS:
        if problem := check(header, Figures(header)):
            raise IntegrityError(f"is not a sound model: {problem}", hint=HINT)


def _experts(header: Header, figures: Figures) -> str | None:
    count, listed = figures.number("expert_count", 0), figures.array("expert_used_count")
    used = max(listed, default=0) if listed is not None else figures.number("expert_used_count", 0)
    if count > MAX_EXPERTS:
        return f"it has {count} experts, at most {MAX_EXPERTS} are possible"
    if used > count and header.architecture not in MAY_LACK_EXPERTS_USED:
        return f"it uses {used} experts and has {count}"
    if count and not used and header.architecture not in MAY_LACK_EXPERTS_USED:
        return f"it uses none of its {count} experts"
    return None


def _heads(header: Header, figures: Figures) -> str | None:
    if header.architecture in RECURRENCES:
        return None
    for key, what in (("attention.head_count", "attention heads"), ("attention.head_count_kv", "key-value heads")):
        if header.metadata.get(f"{header.architecture}.{key}") == 0:
            return f"it has 0 {what}"
    return None


def _norms(header: Header, figures: Figures) -> str | None:
    begin = f"{header.architecture}."
    stated = [value for key, value in header.metadata.items() if key.startswith(begin) and "epsilon" in key]
    odd = [value for value in stated if isinstance(value, float) and not 0 <= value < inf]
    if odd:
        return f"its norms' epsilon is {odd[0]}"
    return None if stated or header.architecture in WITHOUT_EPSILON else "its header lacks the norms' epsilon"


def _rope(header: Header, figures: Figures) -> str | None:
    scaling = header.metadata.get(f"{header.architecture}.rope.scaling.type", "linear")
    if scaling not in ROPE_SCALINGS:
        return f"its rope scaling is {str(scaling)[:40]!r}, it can be {', '.join(ROPE_SCALINGS)}"
    heads = figures.find("attention.head_count")
    turned = figures.find("rope.dimension_count")
    if header.architecture not in TURNS_WHOLE_HEADS or not heads or turned is None:
        return None
    head = figures.number("attention.key_length", figures.number("embedding_length", 0) // heads)
    return None if turned == head else f"its rope turns {turned} elements of heads that have {head}"


def _tokenizer(header: Header, figures: Figures) -> str | None:
    tokenizer = header.metadata.get("tokenizer.ggml.model")
    if tokenizer is None:
        return "it has no tokenizer"
    if tokenizer in WITHOUT_TOKENIZER or "tokenizer.ggml.tokens" in {*header.metadata, *header.array_lengths}:
        return None
    return "its tokenizer has no tokens"


def _table(header: Header, figures: Figures) -> str | None:
    shape = next((tensor.shape for tensor in header.tensors if tensor.name == TOKEN_TABLE), None)
    if shape is None or len(shape) != 2:
        return None
    width, n_embd, tokens = shape[0], figures.number("embedding_length", 0), _n_tokens(header)
    if width != n_embd:
        return f"its embeddings have {width} elements, its header says {n_embd}"
    if tokens is not None and tokens != shape[1]:
        return f"its vocabulary has {tokens:,} tokens, its embeddings are for {shape[1]:,}"
    return None


def _layers(header: Header, figures: Figures) -> str | None:
    """No layer may be missing as a whole. Those for drafting may: llama.cpp does without."""
    present = {int(match[1]) for tensor in header.tensors if (match := BLOCK.match(tensor.name))}
    n_draft = figures.number("nextn_predict_layers", 0)
    n_layer = figures.number("block_count", 0) - n_draft
    missing = [layer for layer in range(n_layer) if layer not in present]
    if not present or not missing or header.architecture in MAY_HAVE_EMPTY_LAYERS:
        return None
    if len(missing) == n_layer and n_draft:
        return f"it holds only layers for drafting, none of the other {n_layer}"
    return (
        f"layer {missing[0]} is missing, of {n_layer} counted from 0"
        if len(missing) == 1
        else (f"{len(missing)} of its {n_layer} layers are missing, the first is {missing[0]}, counted from 0")
    )


def _n_tokens(header: Header) -> int | None:
    """Tokens in the vocabulary; None where the file has none, or doesn't say."""
    if header.metadata.get("tokenizer.ggml.model") in (None, *WITHOUT_TOKENIZER):
        return None
    return header.array_lengths.get("tokenizer.ggml.tokens")


CHECKS: tuple[Callable[[Header, Figures], str | None], ...] = (
    _experts,
    _heads,
    _norms,
    _rope,
    _tokenizer,
    _table,
    _layers,
)
