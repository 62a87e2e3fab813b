"""Whether a backend has a flash attention kernel for a model's heads.

Where flash attention is asked for, llmctl must check this itself: llama.cpp then skips its own check (AUTO), and
attention without a kernel runs on the processor. Rules of llama.cpp 0c1e570 (2026-10), with their sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmctl.types.machine import Accelerator
from llmctl.types.model import Heads, Shape


class FlashKernels(Struct, frozen=True):
    """Lengths of key and value, and how many query heads at least share a key head, or a multiple of that: ``pairs``
    where lengths are listed, else both must be multiples of ``any_multiple_of``."""

    pairs: Mapping[tuple[int, int], tuple[int, int]]
    any_multiple_of: int = 0

    def cover(self, heads: Heads) -> bool:
        if self.any_multiple_of:
            return heads.key_length % self.any_multiple_of == heads.value_length % self.any_multiple_of == 0
        least, multiple = self.pairs.get((heads.key_length, heads.value_length), (0, 0))
        return bool(multiple) and heads.group >= least and heads.group % multiple == 0


def _equal(*lengths: int) -> dict[tuple[int, int], tuple[int, int]]:
    return dict.fromkeys(((length, length) for length in lengths), (1, 1))


# ggml_cuda_get_best_fattn_kernel, ggml/src/ggml-cuda/fattn.cu lines 541 to 620; also built for AMD and Moore Threads
CUDA = FlashKernels(
    {
        **_equal(40, 64, 72, 80, 96, 112, 128, 256),
        (192, 128): (8, 8),
        (320, 256): (32, 32),
        (512, 512): (2, 1),
        (576, 512): (2, 1),
    }
)
METAL_LENGTHS = (32, 40, 48, 64, 72, 80, 96, 112, 128, 192, 256, 320, 512, 576)
BACKENDS: Mapping[str, FlashKernels] = {
    "cuda": CUDA,
    "rocm": CUDA,
    "hip": CUDA,
    "musa": CUDA,
    # ggml_metal_device_supports_op, ggml/src/ggml-metal/ggml-metal-device.m lines 1727 to 1750: a value is no longer
    "metal": FlashKernels(
        {(key, value): (1, 1) for key in METAL_LENGTHS for value in range(8, key + 1, 8) if key != 72 or value == key}
    ),
    # ggml_backend_vk_device_supports_op, ggml/src/ggml-vulkan/ggml-vulkan.cpp lines 15451 to 15458
    "vulkan": FlashKernels({}, any_multiple_of=8),
    # ggml_sycl_get_best_fattn_kernel, ggml/src/ggml-sycl/fattn.cpp
    "sycl": FlashKernels({**_equal(40, 64, 72, 80, 96, 112, 128, 256, 512), (576, 512): (2, 1)}),
    # ggml_opencl_supports_op, ggml/src/ggml-opencl/ggml-opencl.cpp lines 9184 to 9216
    "opencl": FlashKernels({**_equal(40, 64, 80, 96, 112, 128, 192, 256, 512), (192, 128): (1, 1)}),
}


def has_kernel(device: Accelerator, shape: Shape) -> bool:
    """Whether the device's backend has flash attention kernels for all heads of the model.

    False for a backend that isn't in BACKENDS. An unknown backend is taken for CUDA, which has the fewest kernels;
    unknown heads are taken to be covered."""
    kernels = CUDA if device.engine_backend is None else BACKENDS.get(device.engine_backend.lower())
    return kernels is not None and all(kernels.cover(heads) for heads in shape.heads)
