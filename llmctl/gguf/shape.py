"""A model's shape and its weights by role, out of a header: what memory and speed depend on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from llmctl.errors import IntegrityError
from llmctl.gguf.caches import COMPRESSED, caching_layers, compressed_width, compression, compressor_elements
from llmctl.gguf.kind import tasks
from llmctl.gguf.layers import (
    ENCODERS,
    ENCODERS_WITH_HEAD,
    MAX_FIGURE,
    MAX_LAYERS,
    SHARED_TABLE,
    Figures,
    indexer_widths,
    recurrent_layers,
    state_elements,
    window,
    windowed_layers,
)
from llmctl.gguf.loaded import draft_layers, is_loaded, loop_count, weighted_layers
from llmctl.gguf.working import working
from llmctl.types.header import Header, Tensor
from llmctl.types.model import Heads, Layer, Shape, Weights

STATE_ELEMENT_BYTES = 4  # llama.cpp keeps recurrent state in F32, whatever the type of the KV cache

TOKEN_TABLE = "token_embd.weight"  # noqa: S105  not a password
OUTPUT_HEAD = "output.weight"
LOOKED_UP = frozenset({"per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
EXPERTS = re.compile(
    r"_(ch)?exps\.|\.ffn_(gate|up|down)\.[0-9]+\."
)  # the latter: one tensor per expert, before 2024-04
REPACKED_ROWS = 8
BLOCK = re.compile(r"blk\.([0-9]{1,4})\.")


def shape(header: Header) -> Shape:
    """The hyperparameters that memory and speed depend on, as llama.cpp would derive them.

    Layers that only draft tokens (``nextn_predict_layers``) are counted, not described: llama.cpp runs them only if
    told to. Raises IntegrityError (without its subject, as ``read_header``) where figures are missing or make no sense.
    """
    figures = Figures(header)
    n_run, n_draft = _layer_counts(header, figures)
    n_embd = figures.required("embedding_length")
    n_head = figures.per_layer("attention.head_count", n_run, (0,) * n_run)
    n_ff = figures.per_layer("feed_forward_length", n_run, (0,) * n_run)
    n_expert_used = figures.per_layer("expert_used_count", n_run, (0,) * n_run)
    key_length, value_length = _head_lengths(figures, n_embd, n_head[0])
    loops = loop_count(figures)
    layers, values = _layers(figures, n_embd, n_run, n_head, n_ff)
    layers, n_head = layers * loops, tuple(n_head) * loops
    full = [layer for layer in layers if layer.kv_width and not layer.windowed]
    limited = [layer for layer in layers if layer.kv_width and layer.windowed]
    return Shape(
        architecture=header.architecture,
        n_layer=n_run * loops,
        n_embd=n_embd,
        n_head=max(n_head),
        n_ff=max(n_ff) or None,
        n_vocab=_n_vocab(header, figures),
        context_train=_context(figures),
        kv_width=sum(layer.kv_width for layer in full),
        kv_window_width=sum(layer.kv_width for layer in limited),
        window=window(figures, n_run) if limited else None,
        state_bytes=sum(layer.state_bytes for layer in layers),
        n_expert=figures.number("expert_count", 0),
        n_expert_used=max(n_expert_used),
        key_length=key_length,
        value_length=value_length,
        value_width=max(values),
        kv_padding=sum(layer.padding for layer in layers if not layer.windowed),
        kv_window_padding=sum(layer.padding for layer in layers if layer.windowed),
        n_ff_expert=max(figures.per_layer("expert_feed_forward_length", n_run, (0,))),
        latent=_latent(figures),
        per_layer_width=n_run * figures.number("embedding_length_per_layer_input", 0),
        n_merge=header.array_lengths.get("tokenizer.ggml.merges", 0),
        n_draft=n_draft,
        passes=loops * n_run / weighted_layers(figures, n_run),
        n_head_full=max(
            (heads for heads, layer in zip(n_head, layers, strict=True) if layer.kv_width and not layer.windowed),
            default=0,
        ),
        heads=_heads(figures, n_embd, n_run, n_head),
        working=working(figures, n_run, n_embd, n_head[0], len(full)),
        layers=layers,
        pools=not {"embed", "rerank"}.isdisjoint(tasks(header)),
    )


def _layers(
    figures: Figures, n_embd: int, n_layer: int, n_head: Sequence[int], n_ff: Sequence[int]
) -> tuple[tuple[Layer, ...], Sequence[int]]:
    """What each layer keeps, and the elements of all values of each."""
    n_head_kv = figures.per_layer("attention.head_count_kv", n_layer, n_head)
    recurrent = recurrent_layers(figures, n_layer, n_head_kv, n_ff)
    windowed = windowed_layers(figures, n_layer)
    caching = caching_layers(figures, n_head_kv, n_ff, recurrent)
    widths = _cache_widths(figures, n_embd, n_head, n_head_kv, caching, windowed)
    values = _value_widths(figures, n_embd, n_head, n_head_kv, windowed)
    state = [state_elements(figures, n_embd, n_head[0]) * keeps for keeps in recurrent]
    ratios = compression(figures, n_layer)
    return tuple(
        Layer(
            width,
            bool(limited),
            (elements + compressor_elements(figures, ratio)) * STATE_ELEMENT_BYTES,
            max(values) - value if caches else 0,
            ratio,
            compressed_width(figures, ratio),
        )
        for width, limited, elements, value, caches, ratio in zip(
            widths, windowed, state, values, caching, ratios, strict=True
        )
    ), values


def weights(header: Header) -> Weights:
    """Tensor bytes by role. Of layers for drafting only what is loaded anyway counts; nothing of it is streamed."""
    figures = Figures(header)
    n_draft = draft_layers(header, figures)
    n_layer = figures.number("block_count", 0) - n_draft if n_draft else MAX_LAYERS
    drafting = [tensor for tensor in header.tensors if _block(tensor) >= n_layer and is_loaded(figures, tensor.name)]
    used = [tensor for tensor in header.tensors if _block(tensor) < n_layer]
    loaded = used + drafting
    looked_up = LOOKED_UP
    headless = header.architecture in ENCODERS - ENCODERS_WITH_HEAD
    tied = not headless and all(tensor.name != OUTPUT_HEAD for tensor in used)
    shared = tied and header.architecture in SHARED_TABLE
    if not tied:
        looked_up |= {TOKEN_TABLE}
    experts = [tensor for tensor in used if EXPERTS.search(tensor.name)]
    streamed = [tensor for tensor in used if tensor.name not in looked_up]
    return Weights(
        total_bytes=sum(tensor.nbytes for tensor in loaded),
        embedding_bytes=sum(
            tensor.nbytes for tensor in used if tensor.name in looked_up or (shared and tensor.name == TOKEN_TABLE)
        ),
        expert_bytes=sum(tensor.nbytes for tensor in loaded if EXPERTS.search(tensor.name)),
        type_bytes=_matrix_bytes(streamed),
        exact=True,
        expert_type_bytes=_matrix_bytes(experts),
        tied_bytes=sum(tensor.nbytes for tensor in used if tied and not shared and tensor.name == TOKEN_TABLE),
        layer_bytes=_by_layer(loaded, header, figures),
        layer_expert_bytes=_by_layer([tensor for tensor in loaded if EXPERTS.search(tensor.name)], header, figures),
        draft_layer_bytes=sum(tensor.nbytes for tensor in drafting),
        unpackable_bytes=_matrix_bytes(tensor for tensor in streamed if not _repackable(tensor, header.architecture)),
        matrix_bytes=max(
            (tensor.nbytes for tensor in used if _block(tensor) >= 0 and tensor not in experts), default=0
        ),
        expert_matrix_bytes=max((tensor.nbytes for tensor in experts), default=0),
    )


def _context(figures: Figures) -> int:
    """Tokens of context that the model was trained for. 0 in a header means no limit, as in llama.cpp."""
    return MAX_FIGURE if figures.find("context_length") == 0 else figures.required("context_length")


def _layer_counts(header: Header, figures: Figures) -> tuple[int, int]:
    """Layers that are run, each counted once, and those for drafting behind them."""
    n_block, n_draft = figures.required("block_count"), figures.number("nextn_predict_layers", 0)
    if not 0 <= n_draft < n_block <= MAX_LAYERS:
        raise IntegrityError(f"has {n_block} layers, {n_draft} of them for drafting; 1 to {MAX_LAYERS} are possible")
    n_draft = draft_layers(header, figures)
    return n_block - n_draft, n_draft


def _cache_widths(
    figures: Figures,
    n_embd: int,
    n_head: Sequence[int],
    n_head_kv: Sequence[int],
    caching: Sequence[bool],
    windowed: Sequence[bool],
) -> list[int]:
    """Elements that each layer caches per token.

    Keys and values of every key head. With latent attention (MLA, files that hold the absorbed projections and so name
    ``key_length_mla``) the "key" is the latent vector with its rotary part, and no value is stored. Sparse
    attention adds the indexer's keys. Sources: the constructors in src/llama-kv-cache.cpp and -dsa.cpp.
    """
    key, value = _head_lengths(figures, n_embd, n_head[0])
    key_window = figures.number("attention.key_length_swa", key)
    value_window = figures.number("attention.value_length_swa", value)
    if _keys_only(figures):
        value = value_window = 0
    indexer = indexer_widths(figures, len(n_head_kv), value)
    widths = [0] * len(n_head_kv)
    for layer, caches in enumerate(caching):
        if caches:
            per_head = key_window + value_window if windowed[layer] else key + value
            widths[layer] = n_head_kv[layer] * per_head + indexer[layer]
    return widths


def _value_widths(
    figures: Figures, n_embd: int, n_head: Sequence[int], n_head_kv: Sequence[int], windowed: Sequence[bool]
) -> list[int]:
    """Elements of all values of each layer, none with latent attention (n_embd_v_gqa in src/llama-hparams.cpp)."""
    _, value = _head_lengths(figures, n_embd, n_head[0])
    if _keys_only(figures):
        return [0] * len(n_head_kv)
    value_window = figures.number("attention.value_length_swa", value)
    return [heads * (value_window if limited else value) for heads, limited in zip(n_head_kv, windowed, strict=True)]


def _head_lengths(figures: Figures, n_embd: int, n_head: int) -> tuple[int, int]:
    """Elements of one head's key and of its value."""
    head = n_embd // n_head if n_head else 0
    return figures.number("attention.key_length", head), figures.number("attention.value_length", head)


def _heads(figures: Figures, n_embd: int, n_layer: int, n_head: Sequence[int]) -> tuple[Heads, ...]:
    """The kinds of heads in layers that attend: those with key heads."""
    n_head_kv = figures.per_layer("attention.head_count_kv", n_layer, n_head)
    key, value = _head_lengths(figures, n_embd, n_head[0])
    windowed_lengths = (
        figures.number("attention.key_length_swa", key),
        figures.number("attention.value_length_swa", value),
    )
    kinds = {
        Heads(*(windowed_lengths if limited else (key, value)), heads // kv_heads)
        for heads, kv_heads, limited in zip(n_head, n_head_kv, windowed_layers(figures, n_layer), strict=False)
        if heads and kv_heads
    }
    return tuple(sorted(kinds, key=lambda kind: (kind.key_length, kind.value_length, kind.group)))


def _latent(figures: Figures) -> bool:
    return all(figures.number(f"attention.{name}_length_mla", 0) for name in ("key", "value"))


def _keys_only(figures: Figures) -> bool:
    """Whether values are what their keys are, and not cached (dsv4_make_k_only in src/llama-kv-cache-dsv4.cpp)."""
    return _latent(figures) or figures.architecture in COMPRESSED


def _n_vocab(header: Header, figures: Figures) -> int | None:
    tokens = header.array_lengths.get("tokenizer.ggml.tokens") or figures.find("vocab_size")
    table = next((tensor.shape for tensor in header.tensors if tensor.name == TOKEN_TABLE), ())
    return tokens or (table[1] if len(table) > 1 else None)


def _block(tensor: Tensor) -> int:
    """The layer that a tensor belongs to; -1 for those outside all layers."""
    match = BLOCK.match(tensor.name)
    return int(match[1]) if match else -1


def _by_layer(tensors: Iterable[Tensor], header: Header, figures: Figures) -> tuple[int, ...]:
    """Bytes in each layer, those for drafting last; empty for a file that doesn't say how many there are. A looped
    layer's weights lie where it is run first."""
    n_draft = draft_layers(header, figures)
    n_run = (figures.number("block_count", 0) - n_draft) * loop_count(figures)
    sizes = [0] * max(0, min(n_run + n_draft, MAX_LAYERS))
    for tensor in tensors:
        layer = _block(tensor)
        if 0 <= layer < len(sizes):
            sizes[layer] += tensor.nbytes
    return tuple(sizes)


def _repackable(tensor: Tensor, architecture: str) -> bool:
    """Whether the CPU backend repacks this matrix if its type and the processor are right: it has rows by the eight,
    and is no table that is looked up and multiplied with at once (supports_op in ggml/src/ggml-cpu/repack.cpp)."""
    if tensor.name == TOKEN_TABLE and architecture in SHARED_TABLE:
        return False
    matrices = 3 if EXPERTS.search(tensor.name) else 2
    by_the_eight = len(tensor.shape) > 1 and tensor.shape[1] % REPACKED_ROWS == 0
    return by_the_eight and sum(size > 1 for size in tensor.shape[matrices:]) == 0


def _matrix_bytes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Bytes by type of what takes part in matrix products: not norms, biases or tables of factors."""
    by_type: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.name.endswith(".weight") and sum(size > 1 for size in tensor.shape) > 1:
            by_type[tensor.type] += tensor.nbytes
    return dict(by_type)
