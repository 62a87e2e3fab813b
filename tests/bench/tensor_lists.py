"""The tensors that llama.cpp asks for in every layer of an architecture, beside those that llmctl looks for.

    python tests/bench/tensor_lists.py [NAME ...]

Models of the tests, with LAYERS layers at most, are given to the engine without a tensor; what it misses is added, in
the shape that it expects, until it has all. Prints for each model the names that every layer has, and those of
``llmctl.gguf.tensor_list`` that the engine does without. Ends with 1 if there are such.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmctl.gguf.tensor_list import DENSE, REQUIRED
from tests.bench.children import asked
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.real_shapes import models

LAYERS = 9
MOST = 3000
MISSING = re.compile(r"missing tensor '([^']+)'|tensor '([^']+)' not found")
WRONG = re.compile(r"tensor '([^']+)' has wrong shape; expected +([0-9, ]+), got")
Tensors = dict[str, tuple[int, ...]]


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(required(json.load(sys.stdin))))
        return 0
    superfluous = 0
    for name in sys.argv[1:] or models():
        metadata = shortened(models()[name])
        architecture = metadata["general.architecture"]
        try:
            tensors = asked(__file__, metadata)
        except SystemExit as error:
            print(f"{name} ({architecture}): {str(error).strip().splitlines()[-1][:150]}")
            continue
        common = in_every_layer(tensors, metadata[f"{architecture}.block_count"])
        looked_for = set(REQUIRED.get(architecture, "").split())
        if metadata.get(f"{architecture}.expert_count"):
            looked_for -= DENSE
        more = sorted(looked_for - common) if common else []
        superfluous += len(more)
        print(f"{name} ({architecture}): {' '.join(sorted(common))}{'  WITHOUT ' if more else ''}{' '.join(more)}")
    return 1 if superfluous else 0


def shortened(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a model with no more than LAYERS layers."""
    begin = f"{metadata['general.architecture']}."
    count = metadata[f"{begin}block_count"]
    changed: dict[str, Any] = {f"{begin}block_count": min(count, LAYERS)}
    changed |= {
        key: list(value[:LAYERS])
        for key, value in metadata.items()
        if isinstance(value, list | tuple) and len(value) == count
    }
    if metadata.get(f"{begin}leading_dense_block_count", 0) >= LAYERS:
        changed[f"{begin}leading_dense_block_count"] = 1
    return {**metadata, **changed}


def in_every_layer(tensors: Mapping[str, Any], count: int) -> set[str]:
    names = [
        {name.split(".", 2)[2].removesuffix(".weight") for name in tensors if name.startswith(f"blk.{layer}.")}
        for layer in range(count)
    ]
    return set.intersection(*names)


def required(metadata: Mapping[str, Any]) -> Tensors:
    """In the child: the tensors without which the engine doesn't load such a model."""
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    loading: Any = llama_cpp.llama_model_default_params()
    loading.no_alloc, loading.load_mode = True, llama_cpp.LLAMA_LOAD_MODE_NONE
    tensors: Tensors = {}
    shape_of: dict[str, tuple[int, ...]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(MOST):
            log.clear()
            specs = [TensorSpec(name, shape, "F32") for name, shape in tensors.items()]
            file = write(Path(folder) / "it.gguf", metadata, specs, fill=Fill.SPARSE)
            if model := llama_cpp.llama_model_load_from_file(os.fsencode(file), loading):
                llama_cpp.llama_model_free(model)
                return tensors
            text = "".join(log)
            if wrong := WRONG.search(text):
                shape = [int(size) for size in wrong[2].split(",")]
                while len(shape) > 1 and shape[-1] == 1:
                    shape.pop()
                tensors[wrong[1]] = shape_of[_part(wrong[1])] = tuple(shape)
            elif missing := MISSING.search(text):
                name = missing[1] or missing[2]
                tensors[name] = shape_of.get(_part(name), (1,))
            else:
                raise SystemExit(text[-300:])
    raise SystemExit(f"more than {MOST} tensors")


def _part(name: str) -> str:
    return re.sub(r"^blk\.\d+\.", "", name)


if __name__ == "__main__":
    sys.exit(main())
