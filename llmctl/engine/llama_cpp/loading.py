"""How a model is loaded. Only for children that load one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llmctl.engine.measure.ggml import Ggml
from llmctl.gguf.quant import TYPE_NUMBERS
from llmctl.types import plan

EXPERTS = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # --n-cpu-moe in common/arg.cpp of llama.cpp
TELL_EVERY_S = 0.25  # nothing is told of a load that takes less
KV_TYPES = {name: TYPE_NUMBERS[name.upper()] for name in plan.KV_TYPES}


def context_params(settings: Mapping[str, Any]) -> Any:
    """``llama_context_params`` with what ``settings``, a ``Configuration`` as a mapping, say of a context."""
    import llama_cpp

    params = llama_cpp.llama_context_default_params()
    params.n_ctx = settings["context"] * settings["sequences"]
    params.n_seq_max = settings["sequences"]
    params.n_batch = max(settings["ubatch"], params.n_batch)
    params.n_ubatch = settings["ubatch"]
    params.swa_full = settings["swa_full"]
    params.flash_attn_type = int(settings["flash_attention"])
    params.type_k = params.type_v = KV_TYPES[settings["kv_type"]]
    return params


class Override(ctypes.Structure):
    """struct llama_model_tensor_buft_override"""

    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


@contextlib.contextmanager
def adjusted(params: Any, settings: Mapping[str, Any]) -> Iterator[Any]:
    """``llama_model_params`` with what ``settings``, a ``Configuration`` as a mapping, say of repacking, of layers on
    devices and of experts on the CPU. The model must be loaded inside: the lists are gone afterwards."""
    import llama_cpp

    counts, expert_layers = settings["layers_per_device"], settings["cpu_expert_layers"]
    params.use_extra_bufts = settings["repack"]
    params.n_gpu_layers = settings["gpu_layers"]
    split = (ctypes.c_float * llama_cpp.llama_max_devices())(*counts)
    used = [at for at, count in enumerate(counts) if count]
    if len(used) == 1:  # the others are not woken up
        params.split_mode, params.main_gpu = llama_cpp.LLAMA_SPLIT_MODE_NONE, used[0]
    elif used:
        params.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))
    overrides = (Override * (expert_layers + 1))()  # the last one, all zeros, ends the list
    if expert_layers:
        ggml = Ggml()
        memory = ggml.backend_dev_buffer_type(ggml.cpu())
        for layer in range(expert_layers):
            overrides[layer] = Override(EXPERTS.format(layer=layer).encode(), memory)
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    yield params


def load(settings: Mapping[str, Any], tell: Callable[[float], None] | None = None) -> Any:
    """llama.cpp's pointer to the model in ``settings["file"]``, a path of any bytes. ``tell`` hears now and then which
    share of it is in its place, 0 to 1. Raises RuntimeError."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
    if tell is not None:
        params.progress_callback = llama_cpp.llama_progress_callback(_now_and_then(tell))
    with adjusted(params, settings):
        model = llama_cpp.llama_model_load_from_file(os.fsencode(settings["file"]), params)
    if not model:
        raise RuntimeError(f"Failed to load model from file: {settings['file']}")
    return model


def _now_and_then(tell: Callable[[float], None]) -> Callable[[float, object], bool]:
    """What llama.cpp calls before each tensor; True is to go on."""
    told_s = time.monotonic()

    def heard(share: float, _: object) -> bool:
        nonlocal told_s
        if time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            tell(share)
        return True

    return heard
