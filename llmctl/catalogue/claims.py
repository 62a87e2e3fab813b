"""Checks whether a file can be the catalogue's file that it is claimed to be, by its header."""

from __future__ import annotations

from llmctl import units
from llmctl.gguf.quant import FILE_TYPES, quant_label
from llmctl.types.header import Header
from llmctl.types.model import Artifact, Model

MOST_APART = 0.1  # of the weights' bytes: a newer revision of the same file may differ by so much


def contradiction(header: Header, model: Model, artifact: Artifact) -> str | None:
    """What differs between ``header`` and ``artifact`` of ``model``, with both values; None if it may be that file."""
    architecture, wanted = header.metadata.get("general.architecture"), model.shape.architecture
    if architecture != wanted:
        return f"its header says {architecture}, the catalogue {wanted}"
    weights_bytes, wanted_bytes = header.tensor_bytes, artifact.weights.total_bytes
    if abs(weights_bytes - wanted_bytes) > MOST_APART * wanted_bytes:
        return f"its weights take {units.size(weights_bytes)}, in the catalogue {units.size(wanted_bytes)}"
    quant = quant_label(header)
    stated = "general.file_type" in header.metadata
    if stated and quant != artifact.quant and {quant, artifact.quant} <= set(FILE_TYPES.values()):
        return f"its header says {quant}, the catalogue {artifact.quant}"
    return None
