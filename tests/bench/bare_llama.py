"""llama-cpp-python's own class with a plan's settings: what others are measured against. Only for children."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from llmctl.engine.llama_cpp.loading import KV_TYPES, adjusted


def bare_llama(file: str, settings: Mapping[str, Any]) -> Any:
    """``Llama`` with ``settings``, a ``Configuration`` as a mapping with ``threads`` and ``prefill_threads``."""
    import llama_cpp

    with _loads_as(settings):
        return llama_cpp.Llama(
            model_path=file,
            n_ctx=settings["context"],
            n_threads=settings["threads"],
            n_threads_batch=settings["prefill_threads"],
            n_ubatch=settings["ubatch"],
            type_k=KV_TYPES[settings["kv_type"]],
            type_v=KV_TYPES[settings["kv_type"]],
            flash_attn=settings["flash_attention"],
            swa_full=settings["swa_full"],
            verbose=False,
        )


@contextlib.contextmanager
def _loads_as(settings: Mapping[str, Any]) -> Iterator[None]:
    """``Llama`` has no argument for some settings; it loads through one function of the binding."""
    from llama_cpp import llama_cpp as binding

    load = binding.llama_model_load_from_file

    def load_adjusted(path: bytes, params: Any) -> Any:
        with adjusted(params, settings):
            return load(path, params)

    binding.llama_model_load_from_file = load_adjusted
    try:
        yield
    finally:
        binding.llama_model_load_from_file = load
