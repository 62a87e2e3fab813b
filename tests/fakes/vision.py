"""A small vision projector with random weights, in the shape of SmolVLM's, Gemma 3's or Qwen's, which llama.cpp loads
and computes pictures with."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from tests.fakes.gguf_file import TensorSpec, Value, header, padded

EMBD, FF, LAYERS, PATCH, IMAGE, MERGE = 32, 64, 1, 8, 64, 4
SIDE = IMAGE // PATCH
TOKENS = (SIDE // MERGE) ** 2
"""Of a picture."""


def write_projector(path: Path, *, text_embd: int, kind: str = "idefics3", seed: int = 0) -> Path:
    """For a language model of width ``text_embd``. ``kind``: idefics3, whose pictures are read like text, gemma3, in
    whose pictures each token sees all, or qwen2vl_merger, whose pictures keep their size and take few positions."""
    shapes = _shapes(kind, text_embd)
    metadata: dict[str, Value] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        "clip.vision.image_size": IMAGE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": EMBD,
        "clip.vision.feed_forward_length": FF,
        "clip.vision.block_count": LAYERS,
        "clip.vision.projection_dim": text_embd,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.vision.projector.scale_factor": MERGE,
    }
    random = np.random.default_rng(seed)
    specs = [TensorSpec(name, tuple(reversed(shape)), "F32") for name, shape in shapes.items()]
    with path.open("wb") as file:
        file.write(header(metadata, specs))
        for name, shape in shapes.items():
            file.seek(padded(file.tell()))
            is_norm = ".ln" in name or "norm" in name or "post_ln" in name
            array = np.ones(shape) if is_norm and name.endswith("weight") else random.normal(0, 0.3, shape)
            file.write(array.astype(np.float32).tobytes())
    return path


def _shapes(kind: str, text_embd: int) -> dict[str, tuple[int, ...]]:
    """Of each tensor, slowest dimension first."""
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (EMBD, 3, PATCH, PATCH),
        "v.patch_embd.bias": (EMBD,),
        "v.position_embd.weight": (SIDE * SIDE, EMBD),
        "v.post_ln.weight": (EMBD,),
        "v.post_ln.bias": (EMBD,),
    }
    for layer in range(LAYERS):
        sizes = {f"attn_{part}": (EMBD, EMBD) for part in ("q", "k", "v", "out")}
        sizes |= {"ffn_up": (FF, EMBD), "ffn_down": (EMBD, FF)}
        for name, shape in sizes.items():
            shapes[f"v.blk.{layer}.{name}.weight"] = shape
            shapes[f"v.blk.{layer}.{name}.bias"] = shape[:1]
        for name in ("ln1", "ln2"):
            shapes |= {f"v.blk.{layer}.{name}.weight": (EMBD,), f"v.blk.{layer}.{name}.bias": (EMBD,)}
    if kind == "qwen2vl_merger":
        del shapes["v.patch_embd.bias"], shapes["v.position_embd.weight"]
        shapes |= {"v.patch_embd.weight.1": (EMBD, 3, PATCH, PATCH)}
        shapes |= {"mm.0.weight": (EMBD * 4, EMBD * 4), "mm.0.bias": (EMBD * 4,)}
        return shapes | {"mm.2.weight": (text_embd, EMBD * 4), "mm.2.bias": (text_embd,)}
    if kind == "gemma3":
        return shapes | {"mm.input_projection.weight": (EMBD, text_embd), "mm.soft_emb_norm.weight": (EMBD,)}
    return shapes | {"mm.model.fc.weight": (text_embd, EMBD * MERGE * MERGE)}


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A picture of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
