"""Writes GGUF files: sound ones, headers without weights, sparse ones of full length, and whole small models.

    write(path, metadata, tensors)                 any header; weights random, sparse or absent
    write_model(path, model_shape("tiny"))         a llama-architecture model that llama.cpp loads and runs

The random weights mean nothing, but they are finite and of the right type, shape and number: sizes, memory and speed
are those of the real model. The layout is the GGUF specification's, written down here a second time on purpose: the
reader must not be checked against itself.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

ALIGNMENT = 32


class Kind(NamedTuple):
    """A value with its GGUF kind spelt out, where ``encode`` would choose another: ``Kind(0, "B", 7)`` is a u8."""

    number: int
    format: str
    value: int | float | bool


Scalar = str | bool | int | float | Kind
Value = Scalar | Sequence[Scalar]


class TensorSpec(NamedTuple):
    """``shape`` fastest dimension first; ``type`` by ggml's name.

    The random weights of the first ``quiet_rows`` are an eighth the size of the others.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    quiet_rows: int = 0


class Fill(StrEnum):
    """What stands where the weights belong: nothing, a hole of their length (read as zeros), or random weights."""

    NOTHING = "nothing"
    SPARSE = "sparse"
    RANDOM = "random"


# name -> (ggml's number, weights per block, bytes per block, where a block's scales are, 16-bit floats to put there).
# The rest of a block may hold any bits; with these scales, weights spread over about -1/2 to 1/2.
BLOCKS: Mapping[str, tuple[int, int, int, int, tuple[float, ...]]] = {
    "F32": (0, 1, 4, 0, ()),
    "F16": (1, 1, 2, 0, ()),
    "Q4_0": (2, 32, 18, 0, (2**-4,)),
    "Q4_1": (
        3,
        32,
        20,
        0,
        (
            2**-4,
            -7.5 * 2**-4,
        ),
    ),
    "Q5_0": (6, 32, 22, 0, (2**-5,)),
    "Q5_1": (
        7,
        32,
        24,
        0,
        (
            2**-5,
            -15.5 * 2**-5,
        ),
    ),
    "Q8_0": (8, 32, 34, 0, (2**-8,)),
    "Q2_K": (
        10,
        256,
        84,
        80,
        (
            2**-6,
            2**-6,
        ),
    ),
    "Q3_K": (11, 256, 110, 108, (2**-8,)),
    "Q4_K": (
        12,
        256,
        144,
        0,
        (
            2**-10,
            2**-8,
        ),
    ),
    "Q5_K": (
        13,
        256,
        176,
        0,
        (
            2**-11,
            2**-8,
        ),
    ),
    "Q6_K": (14, 256, 210, 208, (2**-12,)),
    "IQ4_NL": (20, 32, 18, 0, (2**-7,)),
    "IQ4_XS": (23, 256, 136, 0, (2**-11,)),
}
PATTERN_BYTES = 1 << 20  # random weights repeat after about this much: quick to write, too long for any cache to profit


def encode(value: Value) -> bytes:
    """A metadata value: whole numbers as u32 (u64 if they don't fit, i32 if negative), others as f32."""
    if isinstance(value, (str, bool, int, float, Kind)):
        number, payload = _scalar(value)
        return struct.pack("<I", number) + payload
    element, payload = _elements(value)
    return struct.pack("<IIQ", 9, element, len(value)) + payload


def _elements(values: Sequence[Scalar]) -> tuple[int, bytes]:
    """The type of the first, and all; numbers that are alike at once: a vocabulary has tens of thousands."""
    alike = {value[:2] if isinstance(value, Kind) else type(value) for value in values}
    match values[0] if len(alike) == 1 else None:
        case Kind(number, format, _):
            numbers = [value.value for value in values if isinstance(value, Kind)]
            return number, struct.pack(f"<{len(numbers)}{format}", *numbers)
        case float():
            return 6, struct.pack(f"<{len(values)}f", *values)
    encoded = [_scalar(value) for value in values]
    return encoded[0][0] if encoded else 4, b"".join(payload for _, payload in encoded)


def _scalar(value: Scalar) -> tuple[int, bytes]:
    match value:
        case Kind(number, format, inner):
            return number, struct.pack(f"<{format}", inner)
        case str():
            return 8, text(value)
        case bool():
            return 7, struct.pack("<?", value)
        case int() if value < 0:
            return 5, struct.pack("<i", value)
        case int() if value < 1 << 32:
            return 4, struct.pack("<I", value)
        case int():
            return 10, struct.pack("<Q", value)
    return 6, struct.pack("<f", value)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def tensor_bytes(tensor: TensorSpec) -> int:
    _, length, size, _, _ = BLOCKS[tensor.type]
    return math.prod(tensor.shape) // length * size


def padded(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment


def alignment_of(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT)
    assert isinstance(alignment, int)
    return alignment


def header(metadata: Mapping[str, Value], tensors: Sequence[TensorSpec] = (), *, version: int = 3) -> bytes:
    """Everything before the weights, padded to where they begin (by ``general.alignment``, if given)."""
    alignment = alignment_of(metadata)
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    parts += [text(key) + encode(value) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        parts.append(text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        parts.append(struct.pack("<IQ", BLOCKS[tensor.type][0], offset))
        offset += padded(tensor_bytes(tensor), alignment)
    raw = b"".join(parts)
    return raw.ljust(padded(len(raw), alignment), b"\0")


def write(
    path: Path, metadata: Mapping[str, Value], tensors: Sequence[TensorSpec] = (), *, fill: Fill = Fill.NOTHING
) -> Path:
    """A GGUF file at ``path``. Its last tensor has no padding after it."""
    with path.open("wb") as file:
        file.write(header(metadata, tensors))
        for tensor in tensors if fill is not Fill.NOTHING else ():
            file.seek(padded(file.tell(), alignment_of(metadata)))
            if fill is Fill.SPARSE:
                file.truncate(file.seek(tensor_bytes(tensor), 1))
            elif len(tensor.shape) == 1:
                file.write(struct.pack("<f", 1.0) * tensor.shape[0])  # a norm
            else:
                quiet_bytes = tensor_bytes(tensor) // tensor.shape[1] * tensor.quiet_rows
                _repeat(file, _pattern(tensor.type, 1 / 8), quiet_bytes)
                _repeat(file, _pattern(tensor.type, 1.0), tensor_bytes(tensor) - quiet_bytes)
    return path


def _repeat(file: BinaryIO, pattern: bytes, size_bytes: int) -> None:
    whole, rest = divmod(size_bytes, len(pattern))
    for _ in range(whole):
        file.write(pattern)
    file.write(pattern[:rest])


@cache
def _pattern(type: str, loudness: float) -> bytes:
    """Random blocks of one type with sane scales, the same in every run."""
    source = random.Random(type)
    if type in ("F32", "F16"):
        count = PATTERN_BYTES // 64
        weights = (source.gauss(0, loudness / 4) for _ in range(count))
        return struct.pack(f"<{count}{'f' if type == 'F32' else 'e'}", *weights)
    _, _, size, at, scales = BLOCKS[type]
    blocks = bytearray(source.randbytes(PATTERN_BYTES // size * size))
    for index, byte in enumerate(struct.pack(f"<{len(scales)}e", *(scale * loudness for scale in scales))):
        blocks[at + index :: size] = bytes([byte]) * (len(blocks) // size)
    return bytes(blocks)


def cut(path: Path, size_bytes: int) -> Path:
    """Damage: the file ends after ``size_bytes``."""
    with path.open("r+b") as file:
        file.truncate(size_bytes)
    return path


def overwrite(path: Path, at: int, raw: bytes) -> Path:
    """Damage: other bytes from ``at`` on."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)
    return path


@dataclass(frozen=True)
class LlamaShape:
    """A dense model of the llama architecture; ``tied`` ones use the token table as output head."""

    name: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int
    context: int
    tied: bool
    quant: str
    head_quant: str = "Q8_0"


# A sentencepiece vocabulary begins with these: three marks, and every byte, so that any text can be written. Their rows
# in the output head are quiet, or a model of random weights would answer in broken characters.
MARKS_AND_BYTES = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)))

SHAPES = {
    shape.name: shape
    for shape in (
        LlamaShape("tiny", 2, 64, 4, 2, 128, 1024, 512, True, "Q4_0"),
        LlamaShape("smollm2-135m", 30, 576, 9, 3, 1536, 49152, 8192, True, "Q4_0"),
        LlamaShape("smollm2-360m", 32, 960, 15, 5, 2560, 49152, 8192, True, "Q4_0"),
        LlamaShape("smollm2-1.7b", 24, 2048, 32, 32, 8192, 49152, 8192, True, "Q4_K", "Q6_K"),
        LlamaShape("llama-3.2-1b", 16, 2048, 32, 8, 8192, 128256, 131072, True, "Q4_K", "Q6_K"),
        LlamaShape("llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, False, "Q4_K", "Q6_K"),
    )
}


def model_shape(name: str) -> LlamaShape:
    return SHAPES[name]


def write_model(path: Path, shape: LlamaShape, *, fill: Fill = Fill.RANDOM) -> Path:
    """A model of this shape with a vocabulary of bytes and made-up words and a plain chat template."""
    return write(path, llama_metadata(shape), llama_tensors(shape), fill=fill)


def llama_metadata(shape: LlamaShape) -> dict[str, Value]:
    words = [f"\u2581w{number}" for number in range(shape.n_vocab - len(MARKS_AND_BYTES))]
    tokens = [*MARKS_AND_BYTES, *words]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    return {
        "general.architecture": "llama",
        "general.name": shape.name,
        "llama.block_count": shape.n_layer,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.n_embd,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.n_embd // shape.n_head,
        "llama.vocab_size": shape.n_vocab,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [float(-index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [Kind(5, "i", kind) for kind in kinds],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:",
    }


def llama_tensors(shape: LlamaShape) -> list[TensorSpec]:
    n_embd, n_kv, n_ff, quant = shape.n_embd, shape.n_embd // shape.n_head * shape.n_head_kv, shape.n_ff, shape.quant
    tensors = [TensorSpec("token_embd.weight", (n_embd, shape.n_vocab), shape.head_quant, len(MARKS_AND_BYTES))]
    for layer in range(shape.n_layer):
        block = f"blk.{layer}."
        tensors += [
            TensorSpec(block + "attn_norm.weight", (n_embd,), "F32"),
            TensorSpec(block + "attn_q.weight", (n_embd, n_embd), quant),
            TensorSpec(block + "attn_k.weight", (n_embd, n_kv), quant),
            TensorSpec(block + "attn_v.weight", (n_embd, n_kv), quant),
            TensorSpec(block + "attn_output.weight", (n_embd, n_embd), quant),
            TensorSpec(block + "ffn_norm.weight", (n_embd,), "F32"),
            TensorSpec(block + "ffn_gate.weight", (n_embd, n_ff), quant),
            TensorSpec(block + "ffn_up.weight", (n_embd, n_ff), quant),
            TensorSpec(block + "ffn_down.weight", (n_ff, n_embd), quant),
        ]
    tensors.append(TensorSpec("output_norm.weight", (n_embd,), "F32"))
    if not shape.tied:
        tensors.append(TensorSpec("output.weight", (n_embd, shape.n_vocab), shape.head_quant, len(MARKS_AND_BYTES)))
    return tensors
