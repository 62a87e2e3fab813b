"""How a model is loaded, as far as ``llama_cpp.Llama`` has no argument for it. Only for children that load one."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from typing import Any

from llmctl.engine.measure.ggml import Ggml
from llmctl.gguf.quant import TYPE_NUMBERS
from llmctl.types import plan

EXPERTS = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # --n-cpu-moe in common/arg.cpp of llama.cpp
KV_TYPES = {name: TYPE_NUMBERS[name.upper()] for name in plan.KV_TYPES}


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


@contextlib.contextmanager
def loads_as(settings: Mapping[str, Any]) -> Iterator[None]:
    """Whatever ``Llama`` loads inside is loaded with these settings: it goes through one function of the binding.

    Its chat template is left alone, which ``Llama`` would compile: a template is a program of the file, and compiling
    one may take for ever.
    """
    from llama_cpp import llama_chat_format
    from llama_cpp import llama_cpp as binding

    formats: Any = llama_chat_format
    load, formatter = binding.llama_model_load_from_file, formats.Jinja2ChatFormatter

    def load_adjusted(path: bytes, params: Any) -> Any:
        with adjusted(params, settings):
            return load(path, params)

    binding.llama_model_load_from_file = load_adjusted
    formats.Jinja2ChatFormatter = _NoTemplate
    try:
        yield
    finally:
        binding.llama_model_load_from_file = load
        formats.Jinja2ChatFormatter = formatter


class _NoTemplate:
    """Takes the place of the binding's formatter of chat templates, and formats nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def to_chat_handler(self) -> None:
        return None
