"""What a GGUF file says of itself before its weights begin."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

Scalar = str | int | float | bool


class Tensor(Struct, frozen=True):
    """``shape`` is in ggml's order (fastest dimension first); ``offset`` counts from the header's ``data_offset``."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


class Header(Struct, frozen=True):
    """``metadata`` holds scalars and the short numeric arrays (per-layer figures); of the long arrays
    (vocabulary, merges) only the length is kept, in ``array_lengths``, and in ``array_spans`` the first byte of their
    keys and the one behind their ends. ``architecture`` is empty in the later parts of a split file, and in some files
    that hold no model."""

    version: int
    architecture: str
    metadata: Mapping[str, Scalar | tuple[int | float | bool, ...]]
    array_lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    data_offset: int
    array_spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of tensor data, padding between tensors included."""
        return max((t.offset + t.nbytes for t in self.tensors), default=0)

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja template. A base model has none."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None
