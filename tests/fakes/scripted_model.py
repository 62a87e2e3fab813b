"""Tiny models that always answer with the same tokens: the embedding of each token points at the next.

    write_scripted(path, ["The", " answer", control("</think>"), byte(0xF0)])

llama.cpp loads and runs them, so what becomes of a token on its way to a person is tested with the real engine. A token
can have one successor only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.fakes.gguf_file import Kind, TensorSpec, Value, header, padded

WIDTH, FEED_FORWARD, HEADS = 256, 256, 4
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
END = 2  # </s>
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<|assistant|>"
WITH_TOOLS = (
    "{% for tool in tools or [] %}{{ tool['function']['name'] }}{% endfor %}{% for m in messages %}<|{{ m['role'] }}|>"
    "{{ m['content'] }}{% for call in m['tool_calls'] or [] %}<tool_call>{{ call['function']['name'] }}"
    "{{ call['function']['arguments'] | tojson }}</tool_call>{% endfor %}{% endfor %}<|assistant|>"
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?▁"


Weights = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]


@dataclass(frozen=True)
class Token:
    text: str
    kind: int = NORMAL


def control(text: str) -> Token:
    return Token(text, CONTROL)


def user_defined(text: str) -> Token:
    return Token(text, USER_DEFINED)


def byte(number: int) -> Token:
    return Token(f"<0x{number:02X}>", BYTE)


def write_scripted(
    path: Path,
    script: Sequence[str | Token],
    *,
    template: str | None = TEMPLATE,
    start: str = "<|assistant|>",
    repeats: bool = False,
    context: int = 4096,
    metadata: Mapping[str, Value] | None = None,
    layers: int = 1,
    feed_forward: int = FEED_FORWARD,
) -> Path:
    """A model that answers with ``script`` behind the token ``start``, then ends, or begins again. ``layers`` of width
    ``feed_forward`` make it slow; they add nothing to what it says."""
    tokens = [Token("<unk>", UNKNOWN), Token("<s>", CONTROL), Token("</s>", CONTROL)]
    tokens += [byte(number) for number in range(256)]
    tokens += [Token(text, CONTROL) for text in (start, "<|user|>", "<|system|>") if Token(text, BYTE) not in tokens]
    tokens += [Token(letter) for letter in LETTERS]
    number_of = {token.text: number for number, token in enumerate(tokens)}
    said = []
    for piece in script:
        token = piece if isinstance(piece, Token) else Token(piece)
        text = token.text if token.kind in (CONTROL, BYTE) else token.text.replace(" ", "▁")
        if text not in number_of:
            number_of[text] = len(tokens)
            tokens.append(Token(text, token.kind))
        said.append(number_of[text])
    chain = [number_of[start], *said, said[0] if repeats else END]
    weights = _weights(chain, len(tokens), layers, feed_forward)
    shape: dict[str, Value] = {"llama.block_count": layers, "llama.feed_forward_length": feed_forward}
    described = {**_metadata(tokens, template, context), **shape, **(metadata or {})}
    specs = [TensorSpec(name, tuple(reversed(array.shape)), "F32") for name, array in weights.items()]
    with path.open("wb") as file:
        file.write(header(described, specs))
        for array in weights.values():
            file.seek(padded(file.tell()))
            file.write(array.tobytes())
    return path


def _weights(chain: Sequence[int], size: int, layers: int, feed_forward: int) -> Weights:
    embedding = np.random.default_rng(0).choice([-1.0, 1.0], size=(size, WIDTH)).astype(np.float32)
    output = np.zeros((size, WIDTH), np.float32)
    assert len(set(chain[:-1])) == len(chain) - 1, "a token would have two successors"
    for token, following in pairwise(chain):
        output[following] += embedding[token]
    for token in set(range(size)) - set(chain[:-1]) - {END}:  # whatever else leads to the end
        output[END] += embedding[token] * 0.02
    zeros = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
    zeros |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (feed_forward, WIDTH), "ffn_up": (feed_forward, WIDTH)}
    zeros |= {"ffn_down": (WIDTH, feed_forward)}
    ones = np.ones(WIDTH, np.float32)
    of_layer: Weights = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    of_layer |= {"attn_norm": ones, "ffn_norm": ones}
    return {
        "token_embd.weight": embedding,
        "output_norm.weight": ones,
        "output.weight": output,
        **{f"blk.{number}.{name}.weight": array for number in range(layers) for name, array in of_layer.items()},
    }


def _metadata(tokens: Sequence[Token], template: str | None, context: int) -> dict[str, Value]:
    return {
        "general.architecture": "llama",
        "general.name": "scripted",
        "llama.context_length": context,
        "llama.embedding_length": WIDTH,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [token.text for token in tokens],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, *(-float(number) for number in range(3, len(tokens)))],
        "tokenizer.ggml.token_type": [Kind(5, "i", token.kind) for token in tokens],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
        **({} if template is None else {"tokenizer.chat_template": template}),
    }
