"""Block sizes against the installed ggml's own; labels."""

from __future__ import annotations

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmctl.gguf.quant import FILE_TYPES, WEIGHT_TYPE_BY_NAME, WEIGHT_TYPES, quant_label
from llmctl.types.header import Header, Tensor


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    spec = find_spec("llama_cpp")  # found, not imported: its import loads far more
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(next((Path(spec.origin).parent / "lib").glob("libggml-base.*"))))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    return library


@pytest.mark.parametrize("number", WEIGHT_TYPES)
def test_blocks_are_ggmls(number: int, ggml: ctypes.CDLL) -> None:
    quant = WEIGHT_TYPES[number]
    assert ggml.ggml_type_name(number).decode().upper() == quant.name
    assert ggml.ggml_blck_size(number) == quant.block_length
    assert ggml.ggml_type_size(number) == quant.block_bytes


def test_every_label_is_of_a_known_type() -> None:
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES)
    families = {re.sub("_(S|M)$", "", name) for name in WEIGHT_TYPE_BY_NAME}
    labelled = {re.sub("_(S|M|L|MOE)$", "", label) for label in FILE_TYPES.values()}
    assert labelled - families == {"IQ3_XS"}  # a mix that has no type of its own


@pytest.mark.parametrize(
    ("file_type", "expected"),
    [(15, "Q4_K_M"), (0, "F32"), (1024 + 7, "Q8_0"), (38, "MXFP4_MOE"), (9999, "Q6_K"), (None, "Q6_K"), ("15", "Q6_K")],
)
def test_quant_label(file_type: int | str | None, expected: str) -> None:
    tensors = (
        Tensor("a", (64, 64), "F32", 0, 16384),
        Tensor("b", (256, 40), "Q6_K", 16384, 8400),
        Tensor("c", (256, 40), "Q6_K", 24800, 8400),  # by bytes, not by the largest tensor
    )
    metadata = {} if file_type is None else {"general.file_type": file_type}
    assert quant_label(Header(3, "llama", metadata, {}, tensors, 0)) == expected


def test_a_file_without_weights_has_no_label() -> None:
    assert quant_label(Header(3, "llama", {}, {}, (), 0)) == "unknown"
