"""What the header of a loaded file says."""

from __future__ import annotations

import ctypes
from typing import Any


def text_of(model: Any, key: bytes) -> str | None:
    """A text out of the file's header, None if there is none of that name."""
    import llama_cpp

    size = 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_model_meta_val_str(model, key, buffer, size)
        if length < size:
            return buffer.value.decode("utf-8", "replace") if length >= 0 else None
        size = length + 1
