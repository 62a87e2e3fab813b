"""Estimates the weights of a file whose header was not read, from the header of another quantization of the same model
and the stated size of the file.

The shapes of all tensors are known then, and so are their bytes together. Which of them are stored finer than the rest
follows llama.cpp's own rules (``llama_tensor_get_type_impl`` and ``tensor_type_fallback``, src/llama-quant.cpp): output
head and token table by the label; then attention values, ``ffn_down`` and attention output, outer layers and every
third first, as far as the bytes go. What is left over is spread over all. The total is that of the file, to a few
kilobytes; the split over types is a likely one, which ``Weights.exact`` says.

Dynamic mixes (``UD-``) of a mixture of experts keep what is not experts in Q8_0, and the rest of the bytes is the
experts': so the files of two publishers come out near the context that llama.cpp itself fits on a card
(``tests/bench/memory_against_logs.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import prod

from msgspec.structs import replace

from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.gguf.shape import BLOCK, EXPERTS, OUTPUT_HEAD, TOKEN_TABLE, weights
from llmctl.types.header import Header, Tensor
from llmctl.types.model import Weights

PLAIN = frozenset({"F32", "F16", "BF16"})
RELEASED = frozenset({"MXFP4", "NVFP4"})  # models released in these keep them, whatever the label of the rest
FINER: Mapping[str, str] = {
    "IQ1_S": "Q2_K",
    "IQ1_M": "Q2_K",
    "IQ2_XXS": "Q2_K",
    "IQ2_XS": "Q2_K",
    "IQ2_S": "IQ3_S",
    "IQ3_XXS": "IQ3_S",
    "IQ3_S": "Q4_K",
    "IQ4_XS": "Q5_K",
    "IQ4_NL": "Q5_K",
    "Q2_K": "Q3_K",
    "Q3_K": "Q4_K",
    "Q4_0": "Q4_1",
    "Q4_K": "Q6_K",
    "Q5_0": "Q5_1",
    "Q5_K": "Q6_K",
    "Q6_K": "Q8_0",
    "Q8_0": "BF16",
}
"""Type of most of a file -> the type of those tensors that are stored finer."""
LABELS: Mapping[str, str] = {
    "IQ2_S": "IQ2_XS",
    "IQ2_M": "IQ2_S",
    "IQ3_XS": "IQ3_XXS",
    "IQ3_M": "IQ3_S",
    "MXFP4_MOE": "MXFP4",
    "Q8_K": "Q8_0",
}
"""Labels whose most frequent type is called otherwise."""
FINER_BY_LABEL: Mapping[str, str] = {"Q2_K_S": "Q4_K", "Q3_K_L": "Q5_K", "Q4_K_S": "Q5_K"}
FALLBACKS: Mapping[str, str] = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""For tensors whose rows aren't a multiple of the type's blocks."""
KEPT = re.compile(r"_norm\.weight$|ffn_gate_inp|ssm_conv1d|shortconv\.conv|per_layer_model_proj|altup|laurel|time_mix_")
FIRST = re.compile(r"attn_(v|qkv|kv_b)\.weight$")
SECOND = re.compile(r"ffn_down(_exps)?\.")
THIRD = re.compile(r"attn_output\.weight$")
DYNAMIC = "UD-"
PLAUSIBLE = (0.85, 1.15)  # the stated size over that of the mix; beyond, the file is of another model


def weights_by_size(header: Header, label: str, data_bytes: int) -> Weights | None:
    """The weights of a file labelled ``label`` with ``data_bytes`` of tensors, of the model that ``header`` describes.

    None where no mix of the label's types comes near that size: the file is of another model, or the label is none.
    """
    base = base_type(label)
    if base is None:
        return None
    head = _head_type(label, base)
    stored = [_stored(tensor, header, base, head) for tensor in header.tensors]
    finer = FINER_BY_LABEL.get(label.removeprefix(DYNAMIC), FINER.get(base, base))
    settled = _is_kept
    if label.startswith(DYNAMIC) and base not in PLAIN and any(map(_is_expert, header.tensors)):
        settled, finer = _is_not_expert, base
        stored = [tensor if _is_expert(tensor) or _is_kept(tensor) else _as(tensor, "Q8_0") for tensor in stored]
    left_bytes = data_bytes - sum(tensor.nbytes for tensor in stored)
    for index in _sensitive(header.tensors):
        tensor = header.tensors[index]
        better = _as(tensor, finer)
        more_bytes = better.nbytes - stored[index].nbytes
        if tensor.type not in RELEASED and 0 < more_bytes <= 2 * left_bytes:
            stored[index] = better
            left_bytes -= more_bytes
    changeable = sum(tensor.nbytes for tensor in stored if not settled(tensor))
    ratio = 1 + left_bytes / changeable if changeable else 0.0
    if not PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1]:
        return None
    spread = (tensor if settled(tensor) else replace(tensor, nbytes=round(tensor.nbytes * ratio)) for tensor in stored)
    return replace(weights(replace(header, tensors=tuple(spread))), exact=False)


def base_type(label: str) -> str | None:
    """The type that most of a file with that label is stored in: ``Q4_K`` of ``UD-Q4_K_XL``; None if it is unknown."""
    name = label.removeprefix(DYNAMIC).upper()
    for spelling in (name, re.sub(r"_(X{0,2}[SML]|NL)$", "", name)):
        if (weight_type := LABELS.get(spelling, spelling)) in WEIGHT_TYPE_BY_NAME:
            return weight_type
    return None


def _head_type(label: str, base: str) -> str:
    if base in PLAIN | {"Q8_0"}:
        return base
    if base in RELEASED or label in ("Q2_K_L", "Q3_K_XL", "Q4_K_L", "Q5_K_L", "Q6_K_L"):
        return "Q8_0"
    return "Q5_K" if base.startswith(("IQ1", "IQ2")) or base == "IQ3_XXS" else "Q6_K"


def _stored(tensor: Tensor, header: Header, base: str, head: str) -> Tensor:
    """The tensor as it stands in a file of type ``base``, before anything is made finer."""
    if _is_kept(tensor) or tensor.type in RELEASED:
        return tensor
    if tensor.name == OUTPUT_HEAD or (tensor.name == TOKEN_TABLE and _tied(header)):
        return _as(tensor, head)
    if base in RELEASED:
        return _as(tensor, base if "_exps." in tensor.name else "Q8_0")
    return _as(tensor, base)


def _tied(header: Header) -> bool:
    return all(tensor.name != OUTPUT_HEAD for tensor in header.tensors)


def _is_kept(tensor: Tensor) -> bool:
    """Whether no quantization changes this tensor."""
    return len(tensor.shape) < 2 or not tensor.name.endswith(".weight") or KEPT.search(tensor.name) is not None


def _as(tensor: Tensor, name: str) -> Tensor:
    for type_name in (name, FALLBACKS.get(name, "F16"), "F16"):
        quant = WEIGHT_TYPE_BY_NAME[type_name]
        if tensor.shape[0] % quant.block_length == 0:
            break
    return replace(tensor, type=type_name, nbytes=prod(tensor.shape) // quant.block_length * quant.block_bytes)


def _sensitive(tensors: tuple[Tensor, ...]) -> Iterable[int]:
    """Indices of the tensors to store finer, in that order; the layers of llama.cpp's ``use_more_bits`` come first."""
    ranked = []
    n_layer = 1 + max((layer for layer in map(_layer, tensors)), default=0)
    for index, tensor in enumerate(tensors):
        if _is_kept(tensor) or tensor.name in (OUTPUT_HEAD, TOKEN_TABLE):
            continue
        kind = next((at for at, kind in enumerate((FIRST, SECOND, THIRD)) if kind.search(tensor.name)), 3)
        layer, eighth = _layer(tensor), n_layer // 8
        early = layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2
        ranked.append((kind >= 2, not early, kind, layer, index))
    return (index for *_, index in sorted(ranked))


def _is_expert(tensor: Tensor) -> bool:
    return EXPERTS.search(tensor.name) is not None


def _is_not_expert(tensor: Tensor) -> bool:
    return not _is_expert(tensor)


def _layer(tensor: Tensor) -> int:
    match = BLOCK.match(tensor.name)
    return int(match[1]) if match else 0
