"""What memory and speed depend on, out of a header: the model's shape, and its weights by role."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from llmctl.errors import IntegrityError
from llmctl.gguf.layers import (
    DIFFUSION,
    ENCODERS,
    KV_LAYERS,
    MAX_FIGURE,
    MAX_LAYERS,
    RECURRENCES,
    Figures,
    Layers,
    indexer_widths,
    recurrent_layers,
    state_elements,
    window,
    windowed_layers,
)
from llmctl.types.header import Header, Tensor
from llmctl.types.model import Layer, Shape, Weights

STATE_ELEMENT_BYTES = 4  # llama.cpp keeps recurrent state in F32, whatever the type of the KV cache

TOKEN_TABLE = "token_embd.weight"  # noqa: S105  not a password
OUTPUT_HEAD = "output.weight"
LOOKED_UP = frozenset({"per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
EXPERTS = re.compile(
    r"_(ch)?exps\.|\.ffn_(gate|up|down)\.[0-9]+\."
)  # the latter: one tensor per expert, before 2024-04
BLOCK = re.compile(r"blk\.([0-9]{1,4})\.")


def shape(header: Header) -> Shape:
    """The hyperparameters that memory and speed depend on, as llama.cpp would derive them.

    Layers that only draft tokens (``nextn_predict_layers``) are left out: llama.cpp doesn't load them unless told to.
    Raises IntegrityError (without its subject, as ``read_header``) where figures are missing or make no sense.
    """
    figures = Figures(header)
    n_layer = _n_layer(figures)
    n_embd = figures.required("embedding_length")
    n_head = figures.per_layer("attention.head_count", n_layer, (0,) * n_layer)
    n_head_kv = figures.per_layer("attention.head_count_kv", n_layer, n_head)
    n_ff = figures.per_layer("feed_forward_length", n_layer, (0,) * n_layer)
    n_expert_used = figures.per_layer("expert_used_count", n_layer, (0,) * n_layer)
    recurrent = recurrent_layers(figures, n_layer, n_head_kv, n_ff)
    windowed = windowed_layers(figures, n_layer)
    widths = _cache_widths(figures, n_embd, n_head, n_head_kv, recurrent, windowed)
    kv_window_width = sum(width for width, limited in zip(widths, windowed, strict=True) if limited)
    values = _value_widths(figures, n_embd, n_head, n_head_kv, windowed)
    state_bytes = state_elements(figures, n_embd, n_head[0]) * STATE_ELEMENT_BYTES
    key_length, value_length = _head_lengths(figures, n_embd, n_head[0])
    layers = tuple(
        Layer(width, bool(limited), state_bytes if keeps else 0, max(values) - value if width else 0)
        for width, limited, keeps, value in zip(widths, windowed, recurrent, values, strict=True)
    )
    return Shape(
        architecture=header.architecture,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=max(n_head),
        n_ff=max(n_ff) or None,
        n_vocab=_n_vocab(header, figures),
        context_train=_context(figures),
        kv_width=sum(widths) - kv_window_width,
        kv_window_width=kv_window_width,
        window=window(figures, n_layer) if kv_window_width else None,
        state_bytes=sum(recurrent) * state_bytes,
        n_expert=figures.number("expert_count", 0),
        n_expert_used=max(n_expert_used),
        key_length=key_length,
        value_length=value_length,
        value_width=max(values),
        kv_padding=sum(layer.padding for layer in layers if not layer.windowed),
        kv_window_padding=sum(layer.padding for layer in layers if layer.windowed),
        n_ff_expert=figures.number("expert_feed_forward_length", 0),
        latent=_latent(figures),
        per_layer_width=n_layer * figures.number("embedding_length_per_layer_input", 0),
        n_merge=header.array_lengths.get("tokenizer.ggml.merges", 0),
        layers=layers,
    )


def weights(header: Header) -> Weights:
    """Tensor bytes by role. Draft layers are left out of all of them, as in ``shape``."""
    figures = Figures(header)
    n_draft = figures.number("nextn_predict_layers", 0)
    n_layer = figures.number("block_count", 0) - n_draft if n_draft else MAX_LAYERS
    loaded = [tensor for tensor in header.tensors if _block(tensor) < n_layer]
    looked_up = LOOKED_UP
    tied = header.architecture not in ENCODERS and all(tensor.name != OUTPUT_HEAD for tensor in loaded)
    if not tied:
        looked_up |= {TOKEN_TABLE}
    experts = [tensor for tensor in loaded if EXPERTS.search(tensor.name)]
    return Weights(
        total_bytes=sum(tensor.nbytes for tensor in loaded),
        embedding_bytes=sum(tensor.nbytes for tensor in loaded if tensor.name in looked_up),
        expert_bytes=sum(tensor.nbytes for tensor in experts),
        type_bytes=_matrix_bytes(tensor for tensor in loaded if tensor.name not in looked_up),
        exact=True,
        expert_type_bytes=_matrix_bytes(experts),
        tied_bytes=sum(tensor.nbytes for tensor in loaded if tied and tensor.name == TOKEN_TABLE),
        layer_bytes=_by_layer(loaded, figures),
        layer_expert_bytes=_by_layer(experts, figures),
    )


def _context(figures: Figures) -> int:
    """Tokens that it was trained for. llama.cpp loads a file that states 0, with any context: no limit is known."""
    return MAX_FIGURE if figures.find("context_length") == 0 else figures.required("context_length")


def _n_layer(figures: Figures) -> int:
    n_block, n_draft = figures.required("block_count"), figures.number("nextn_predict_layers", 0)
    if not 0 <= n_draft < n_block <= MAX_LAYERS:
        raise IntegrityError(f"has {n_block} layers, {n_draft} of them for drafting; 1 to {MAX_LAYERS} are possible")
    return n_block - n_draft


def _cache_widths(
    figures: Figures,
    n_embd: int,
    n_head: Sequence[int],
    n_head_kv: Sequence[int],
    recurrent: Sequence[bool],
    windowed: Sequence[bool],
) -> list[int]:
    """Elements that each layer caches per token.

    Keys and values of every key head. With latent attention (MLA, files that hold the absorbed projections and so name
    ``key_length_mla``) the "key" is the latent vector with its rotary part, and no value is stored. Sparse
    attention adds the indexer's keys. Sources: the constructors in src/llama-kv-cache.cpp and -dsa.cpp.
    """
    n_layer = len(n_head_kv)
    recurrence = RECURRENCES.get(figures.architecture)
    if figures.architecture in ENCODERS | DIFFUSION or (recurrence and recurrence.layers is Layers.ALL):
        return [0] * n_layer
    key, value = _head_lengths(figures, n_embd, n_head[0])
    key_window = figures.number("attention.key_length_swa", key)
    value_window = figures.number("attention.value_length_swa", value)
    if _latent(figures):
        value = value_window = 0
    beside = recurrence is not None and recurrence.layers is Layers.BESIDE
    n_kv = KV_LAYERS.get(figures.architecture, n_layer - figures.number("attention.shared_kv_layers", 0))
    indexer = indexer_widths(figures, n_layer, value)
    widths = [0] * n_layer
    for layer in range(min(max(n_kv, 0), n_layer)):
        if beside or not recurrent[layer]:
            per_head = key_window + value_window if windowed[layer] else key + value
            widths[layer] = n_head_kv[layer] * per_head + indexer[layer]
    return widths


def _value_widths(
    figures: Figures, n_embd: int, n_head: Sequence[int], n_head_kv: Sequence[int], windowed: Sequence[bool]
) -> list[int]:
    """Elements of all values of each layer, none with latent attention (n_embd_v_gqa in src/llama-hparams.cpp)."""
    _, value = _head_lengths(figures, n_embd, n_head[0])
    if _latent(figures):
        return [0] * len(n_head_kv)
    value_window = figures.number("attention.value_length_swa", value)
    return [heads * (value_window if limited else value) for heads, limited in zip(n_head_kv, windowed, strict=True)]


def _head_lengths(figures: Figures, n_embd: int, n_head: int) -> tuple[int, int]:
    """Elements of one head's key and of its value."""
    head = n_embd // n_head if n_head else 0
    return figures.number("attention.key_length", head), figures.number("attention.value_length", head)


def _latent(figures: Figures) -> bool:
    return all(figures.number(f"attention.{name}_length_mla", 0) for name in ("key", "value"))


def _n_vocab(header: Header, figures: Figures) -> int | None:
    tokens = header.array_lengths.get("tokenizer.ggml.tokens") or figures.find("vocab_size")
    table = next((tensor.shape for tensor in header.tensors if tensor.name == TOKEN_TABLE), ())
    return tokens or (table[1] if len(table) > 1 else None)


def _block(tensor: Tensor) -> int:
    """The layer that a tensor belongs to; -1 for those outside all layers."""
    match = BLOCK.match(tensor.name)
    return int(match[1]) if match else -1


def _by_layer(tensors: Iterable[Tensor], figures: Figures) -> tuple[int, ...]:
    """Bytes in each layer; empty for a file that doesn't say how many there are."""
    n_layer = figures.number("block_count", 0) - figures.number("nextn_predict_layers", 0)
    sizes = [0] * max(0, min(n_layer, MAX_LAYERS))
    for tensor in tensors:
        layer = _block(tensor)
        if 0 <= layer < len(sizes):
            sizes[layer] += tensor.nbytes
    return tuple(sizes)


def _matrix_bytes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Bytes by type of what takes part in matrix products: not norms, biases or tables of factors."""
    by_type: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.name.endswith(".weight") and sum(size > 1 for size in tensor.shape) > 1:
            by_type[tensor.type] += tensor.nbytes
    return dict(by_type)
