"""A tiny BERT with random weights: the real architecture, its WordPiece vocabulary, and a head that ranks if wanted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.fakes.gguf_file import Kind, TensorSpec, Value, header, padded

WIDTH, FEED_FORWARD, LAYERS, HEADS, CONTEXT = 64, 128, 2, 4, 64
MEAN, CLS, RANK = 1, 2, 4  # enum llama_pooling_type
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
Weights = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
# A word begins with "▁"; what goes on does not.
TOKENS = (*MARKS, *(f"▁{letter}" for letter in LETTERS), *LETTERS, "▁.", "▁,", "▁:", "▁_")


def encoders(place: Path, measured_cache: Path) -> Path:
    """``place`` with a model that embeds and one that ranks, and what is remembered of a measured machine, to which
    what the engine says of them is added."""
    shutil.copytree(measured_cache, place / "cache" / "llmctl")
    write_encoder(place / "tiny.gguf")
    write_encoder(place / "ranker.gguf", pooling=RANK)
    return place


def write_encoder(
    path: Path, *, pooling: int = MEAN, context: int = CONTEXT, name: str = "encoder", more_tokens: int = 0
) -> Path:
    """Every word is as many tokens as it has letters; a text has one more at both ends. ``more_tokens`` of the
    vocabulary are never used."""
    tokens = (*TOKENS, *(f"▁_{number}" for number in range(more_tokens)))
    weights = _weights(len(tokens), context, ranks=pooling == RANK)
    specs = [TensorSpec(tensor, tuple(reversed(array.shape)), "F32") for tensor, array in weights.items()]
    with path.open("wb") as file:
        file.write(header(_metadata(tokens, pooling, context, name), specs))
        for array in weights.values():
            file.seek(padded(file.tell()))
            file.write(array.tobytes())
    return path


def _weights(
    n_vocab: int, context: int, *, ranks: bool
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    source = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, WIDTH),
        "position_embd.weight": (context, WIDTH),
        "token_types.weight": (2, WIDTH),
    }
    norms = ["token_embd_norm"]
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {f"{block}attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}ffn_up.weight": (FEED_FORWARD, WIDTH), f"{block}ffn_down.weight": (WIDTH, FEED_FORWARD)}
        norms += [f"{block}attn_output_norm", f"{block}layer_output_norm"]
    if ranks:
        shapes |= {"cls.weight": (WIDTH, WIDTH), "cls.output.weight": (1, WIDTH)}
    made = {tensor: source.normal(0, 0.3, shape).astype(np.float32) for tensor, shape in shapes.items()}
    for norm in norms:
        made |= {f"{norm}.weight": np.ones(WIDTH, np.float32), f"{norm}.bias": np.zeros(WIDTH, np.float32)}
    if ranks:
        made |= {"cls.bias": np.zeros(WIDTH, np.float32), "cls.output.bias": np.zeros(1, np.float32)}
    return made


def _metadata(tokens: Sequence[str], pooling: int, context: int, name: str) -> dict[str, Value]:
    return {
        "general.architecture": "bert",
        "general.name": name,
        "bert.block_count": LAYERS,
        "bert.context_length": context,
        "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": FEED_FORWARD,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": [Kind(5, "i", 3 if token in MARKS else 1) for token in tokens],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
