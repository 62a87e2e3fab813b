"""Vision projectors in real models' shapes, as sparse files."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill, TensorSpec, Value


def write(
    path: Path, kind: str, *, image: int, patch: int, embd: int, ff: int, layers: int, gated: bool = False
) -> Path:
    metadata: dict[str, Value] = {
        "general.architecture": "clip",
        "clip.projector_type": kind,
        "clip.vision.image_size": image,
        "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": embd,
        "clip.vision.feed_forward_length": ff,
        "clip.vision.block_count": layers,
    }
    tensors = [TensorSpec("v.patch_embd.weight", (patch, patch, 3, embd), "F16")]
    for layer in range(layers):
        shapes = {f"attn_{part}": (embd, embd) for part in ("q", "k", "v", "out")}
        shapes |= {"ffn_up": (embd, ff), "ffn_down": (ff, embd)} | ({"ffn_gate": (embd, ff)} if gated else {})
        tensors += [TensorSpec(f"v.blk.{layer}.{name}.weight", shape, "F16") for name, shape in shapes.items()]
    return gguf_file.write(path, metadata, tensors, fill=Fill.SPARSE)
