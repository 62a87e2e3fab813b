"""The memory of a vision projector (``mmproj``): its weights, and the buffer that one image is computed in.

Rows of that buffer are 32-bit floats, one for each patch of the image: the feed-forward network's, thrice where it has
a gate, and three of the embedding's width, four with a gate. So say the buffers that llama.cpp 0c1e570 (2026-10, CPU,
flash attention, which its clip turns on where there is any) told for files in the shapes of Gemma 3's, SmolVLM's and
Pixtral's encoders, to 1 %. The image is the largest that the header names; Qwen's names none, llama.cpp warms up with
46 x 46 tokens of 2 x 2 patches (``set_warmup_n_tokens`` in tools/mtmd/clip.cpp).
"""

from __future__ import annotations

from msgspec import Struct

from llmctl.errors import IntegrityError
from llmctl.gguf.layers import Figures
from llmctl.types.header import Header

ARCHITECTURE = "clip"
FLOAT_BYTES = 4
MAX_PATCHES_A_SIDE = 8192  # llama.cpp takes no larger image, whatever the patch
QWEN = ("qwen2vl_merger", "qwen2.5vl_merger", "qwen2.5o", "qwen3vl_merger")
QWEN_PATCHES = (2 * 46) ** 2


class Projector(Struct, frozen=True):
    weights_bytes: int
    compute_bytes: int


def projector(header: Header) -> Projector:
    """Raises IntegrityError (without its subject, as ``read_header``) for a file that is none."""
    if header.architecture != ARCHITECTURE:
        raise IntegrityError(f"is no projector: its architecture is {header.architecture[:40]!r}")
    figures = Figures(header)
    n_embd, n_ff = figures.number("vision.embedding_length", 0), figures.number("vision.feed_forward_length", 0)
    gated = any(".ffn_gate." in tensor.name for tensor in header.tensors)
    rows = 3 * n_ff + 4 * n_embd if gated else n_ff + 3 * n_embd
    return Projector(sum(tensor.nbytes for tensor in header.tensors), rows * FLOAT_BYTES * _patches(figures, header))


def most_tokens(header: Header) -> int | None:
    """Tokens that the largest picture may take which memory was planned for; None where the projector's pictures are of
    one size, or cut into parts of one."""
    return QWEN_PATCHES // 4 if _is_of_qwen(header) else None


def _is_of_qwen(header: Header) -> bool:
    kinds = {header.metadata.get(f"{ARCHITECTURE}.{key}") for key in ("projector_type", "vision.projector_type")}
    return bool(kinds.intersection(QWEN))


def _patches(figures: Figures, header: Header) -> int:
    if _is_of_qwen(header):
        return QWEN_PATCHES
    side = figures.number("vision.image_size", 0) // max(1, figures.number("vision.patch_size", 1))
    return min(side, MAX_PATCHES_A_SIDE) ** 2
