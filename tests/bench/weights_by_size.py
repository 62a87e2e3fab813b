"""Weights told by a file's size (``llmctl.gguf.mix``) against what llama.cpp's own quantizer would write.

    python tests/bench/weights_by_size.py [FOLDER]

Writes sparse 16-bit files in real shapes into FOLDER (or a temporary one), asks ``llama_model_quantize`` with
``dry_run`` for the type of every tensor under each label, and derives the same from the header of Q4_K_M and the total.
``moved`` is the share of bytes that is told under another type than it has; ``embed`` and ``expert`` are errors in
those roles, as shares of the whole.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
import statistics
import sys
import tempfile
from math import prod
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from llmctl.gguf.header import read_file
from llmctl.gguf.mix import weights_by_size
from llmctl.gguf.quant import FILE_TYPES, WEIGHT_TYPE_BY_NAME
from llmctl.gguf.shape import weights
from llmctl.types.header import Header
from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill, TensorSpec

SHAPES = ("smollm2-360m", "smollm2-1.7b", "llama-3.2-1b", "llama-2-7b")
LABELS = [
    "F16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_0",
    "IQ4_XS",
    "IQ4_NL",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "IQ3_M",
    "IQ3_XS",
    "Q2_K",
]
REFERENCE = "Q4_K_M"
LINE = re.compile(r"\]\s+(\S+)\s+- \[.*?\], type =\s+(\S+), size =\s+[\d.]+ MiB(?: ->\s+[\d.]+ MiB \((\S+)\))?")
TYPES = {name.lower(): name for name in WEIGHT_TYPE_BY_NAME}
NUMBERS = {label: number for number, label in FILE_TYPES.items()}


def dense(folder: Path, name: str) -> Path:
    shape = dataclasses.replace(gguf_file.model_shape(name), quant="F16", head_quant="F16")
    return gguf_file.write_model(folder / f"{name}.gguf", shape, fill=Fill.SPARSE)


def experts(folder: Path) -> Path:
    """16 layers of 32 experts, the output head apart from the token table."""
    n_embd, n_ff, n_expert = 2048, 1024, 32
    shape = dataclasses.replace(
        gguf_file.model_shape("llama-3.2-1b"), quant="F16", head_quant="F16", tied=False, n_vocab=32000
    )
    tensors = []
    for tensor in gguf_file.llama_tensors(shape):
        if ".ffn_" not in tensor.name or "norm" in tensor.name:
            tensors.append(tensor)
            continue
        down = "down" in tensor.name
        size = (n_ff, n_embd, n_expert) if down else (n_embd, n_ff, n_expert)
        tensors.append(TensorSpec(tensor.name.replace(".weight", "_exps.weight"), size, "F16"))
        if down:
            tensors.append(TensorSpec(tensor.name.replace("ffn_down", "ffn_gate_inp"), (n_embd, n_expert), "F32"))
    metadata = gguf_file.llama_metadata(shape) | {"llama.expert_count": n_expert, "llama.expert_used_count": 4}
    return gguf_file.write(folder / "experts.gguf", metadata, tensors, fill=Fill.SPARSE)


def quantized(llama_cpp: Any, log: list[str], file: Path, header: Header, label: str) -> Header:
    """The header that the quantizer would write."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.dry_run, params.nthread = NUMBERS[label], True, 1
    log.clear()
    status = llama_cpp.llama_model_quantize(str(file).encode(), str(file.with_suffix(".out")).encode(), params)
    assert status == 0, "".join(log)[-300:]
    types = {match[1]: TYPES[(match[3] or match[2]).lower()] for match in LINE.finditer("".join(log))}
    tensors, offset = [], 0
    for tensor in header.tensors:
        quant = WEIGHT_TYPE_BY_NAME[types[tensor.name]]
        nbytes = prod(tensor.shape) // quant.block_length * quant.block_bytes
        tensors.append(replace(tensor, type=quant.name, nbytes=nbytes, offset=offset))
        offset += gguf_file.padded(nbytes)
    return replace(header, tensors=tuple(tensors))


def main(folder: Path) -> None:
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    moved_shares = []
    for file in [*(dense(folder, name) for name in SHAPES), experts(folder)]:
        header = read_file(file, whole=False)
        reference = quantized(llama_cpp, log, file, header, REFERENCE)
        for label in LABELS:
            true = header if label == "F16" else quantized(llama_cpp, log, file, header, label)
            told, told_by_size = weights(true), weights_by_size(reference, label, true.tensor_bytes)
            assert told_by_size is not None, (file.stem, label)
            kinds = {*told.type_bytes, *told_by_size.type_bytes}
            moved = sum(abs(told.type_bytes.get(one, 0) - told_by_size.type_bytes.get(one, 0)) for one in kinds) / 2
            moved_shares.append(moved / told.total_bytes)
            print(
                f"{file.stem:14}{label:8}"
                f"total {told_by_size.total_bytes / told.total_bytes - 1:+8.3%}  moved {moved_shares[-1]:7.2%}  "
                f"embed {(told_by_size.embedding_bytes - told.embedding_bytes) / told.total_bytes:+7.2%}  "
                f"expert {(told_by_size.expert_bytes - told.expert_bytes) / told.total_bytes:+7.2%}"
            )
    print(f"moved: median {statistics.median(moved_shares):.2%}, worst {max(moved_shares):.2%}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
