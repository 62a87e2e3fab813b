"""Real models as metadata: ``tests/fixtures/real_shapes.jsonl``, with which llama.cpp can be asked what they'd take.

One model a line: the hyperparameters of its GGUF header, without the architecture's name that stands before each; those
that begin with a slash stand there as they are.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from llmctl.gguf.shape import shape
from llmctl.types.header import Header
from llmctl.types.model import Shape

FILE = Path(__file__).parents[1] / "fixtures" / "real_shapes.jsonl"


@cache
def models() -> dict[str, dict[str, Any]]:
    """Metadata by the model's name."""
    found = {}
    for line in FILE.read_text("utf-8").splitlines():
        entry = json.loads(line)
        architecture, figures = entry["architecture"], entry["figures"]
        named = {key[1:] if key[0] == "/" else f"{architecture}.{key}": value for key, value in figures.items()}
        found[entry["name"]] = {
            "general.architecture": architecture,
            "tokenizer.ggml.model": "no_vocab",
            **named,
        }
    return found


@cache
def shape_of(name: str) -> Shape:
    metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in models()[name].items()}
    return shape(Header(3, str(metadata["general.architecture"]), metadata, {}, (), 0))
