"""Reads the names of GGUF files: the quantization, and whether a file is a model, a projector or neither.

Names of quantizations: llama.cpp (``tools/quantize``), unsloth's ``UD-``, mradermacher's ``i1-``, ik_llama.cpp's types
(``IQ4_KSS``, ``IQ2_KT``, ``Q4_0_R8``), bitnet.cpp's (``I2_S``, ``TL1``), and spellings without underscores (``q4km``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from llmctl.gguf.shards import ENDING

TYPE = r"I?Q[1-9](?:_(?:K(?:SS|[STLV])?|[0-9]|X{0,2}[SL]|M|NL|BN|R[0-9]{1,2}|PT|HIFI|[PHX](?![A-Z0-9])))*"
SHORT = r"Q[2-6]-?K(?:-?[SML])?|Q[458][01]|IQ[1-4](?:XXS|XS|NL|S|M)"  # without underscores
QUANT = re.compile(
    rf"(?<![A-Z0-9])((?:UD[-_])?(?:{SHORT}|{TYPE}|TQ[1-9]_[0-9]S?|(?:MX|NV)FP4(?:_MOE)?|I2_S|TL[12])|B?FP?(?:16|32)(?:_R16)?)(?![A-Z0-9])",
    re.IGNORECASE | re.ASCII,
)
BEFORE_REST = re.compile(r"FP4(?:_MOE)?[-_]$", re.IGNORECASE)  # MXFP4_MOE_BF16: the experts, then all the rest
OF_A_PART = re.compile(
    r"[-_.]?(?:TOKEN[-_]?)?(?:EMB|EMBD|EMBEDS?|EMBEDDINGS?|OUT|OUTPUT|HEAD)(?![A-Z0-9])", re.IGNORECASE | re.ASCII
)
SIXTEEN_BITS = ("F16", "BF16", "F32")
WORD = re.compile(r"[A-Za-z0-9]+")
DRAFTS = ("eagle3", "eagle-3", "dflash", "dspark", "medusa", "mtp-head", "mtp-only", "nextn-head")
"""Words in the names of files that hold only heads for speculative decoding."""
PROJECTORS = ("projector", "mmprojector", "mm-proj")
NO_MODELS = ("vocab", "tokenizer", "cvector", "control-vector")
ADAPTERS = ("lora", "adapter")
ANY_CASE = "*." + "".join(f"[{letter}{letter.upper()}]" for letter in ENDING.removeprefix("."))  # for glob


def has_ending(name: str) -> bool:
    """Whether a name ends in ``.gguf``, in any case."""
    return name.lower().endswith(ENDING)


def without_ending(name: str) -> str:
    """``Tiny-Q4_0`` of ``Tiny-Q4_0.gguf`` and of ``Tiny-Q4_0.GGUF``."""
    return name[: -len(ENDING)] if has_ending(name) else name


def quant(file: str) -> str | None:
    """``Q4_K_M`` of ``Tiny-1B-Q4_K_M-00001-of-00002.gguf``, else of the folder that the file lies in."""
    path = PurePosixPath(file)
    for name in (path.name, path.parent.name):
        if (match := _quant(name)) is not None:
            return _spelt(match[1])
    return None


def whole_quant(text: str) -> str | None:
    """``Q4_K_M`` of ``q4km``; None of what is more than the name of a quantization."""
    match = QUANT.fullmatch(text)
    return None if match is None else _spelt(match[1])


def without_quant(stem: str) -> str:
    """``Tiny-1B`` of ``Tiny-1B-Q4_K_M``."""
    match = _quant(stem)
    whole = match is not None and match.end() == len(stem) and stem[: match.start()].endswith(("-", ".", "_"))
    return (stem[: match.start() - 1] if match is not None and whole else stem) or stem


def model_name(stem: str) -> str:
    """The name that all quantizations of one model share: in upper case, without the quantization."""
    return QUANT.sub("", stem).upper()


def is_projector(file: str) -> bool:
    path = PurePosixPath(file)
    return (
        "mmproj" in path.name.lower()
        or _says(path.name, PROJECTORS)
        or path.parent.name.lower() in ("mmproj", "mm_proj")
    )


def is_hidden(name: str) -> bool:
    """Whether a file is a temporary file of a copy, or one that macOS adds beside each file on a stick."""
    return name.startswith(".")


def is_model(file: str) -> bool:
    """Whether a file of a repository is a model by its name, or one part of a model."""
    name = PurePosixPath(file).name
    return (
        has_ending(name)
        and not is_hidden(name)
        and not is_projector(file)
        and not (_is_importance_matrix(name) or _is_draft_head(name) or _is_adapter(name) or _is_of_no_weights(name))
    )


def is_draft(file: str) -> bool:
    """Whether the name says that the model is a draft model for speculative decoding."""
    return "draft" in _words(file)


def _is_importance_matrix(name: str) -> bool:
    """Whether the name is that of an importance matrix.

    ``Tiny-imatrix-Q4_K_M`` is a model that was quantized with one, ``Tiny-imatrix`` the matrix,
    and ``Tiny-BF16-imatrix`` the matrix of unquantized weights."""
    words = _words(name)
    if "imatrix" not in words:
        return False
    return words[0] == "imatrix" or quant(name) in (None, *SIXTEEN_BITS)


def _is_draft_head(name: str) -> bool:
    """``mtp-Tiny`` holds the heads alone, ``Tiny-MTP`` the model with them."""
    return _words(name)[:1] == ["mtp"] or _says(name, DRAFTS)


def _is_adapter(name: str) -> bool:
    """``Tiny-LoRA-F16`` is what was learnt alone, ``Tiny-LoRA-Q4_K_M`` and ``Tiny-LoRA-merged-F16`` are models."""
    words = _words(name)
    if "merged" in words or not _says(name, ADAPTERS):
        return False
    return words[0] in ADAPTERS or quant(name) in (None, *SIXTEEN_BITS)


def _is_of_no_weights(name: str) -> bool:
    """``ggml-vocab-tiny`` and ``Tiny-tokenizer`` hold a vocabulary, ``control-vector`` a direction to steer by."""
    return _says(name, NO_MODELS) and quant(name) in (None, *SIXTEEN_BITS)


def _says(name: str, terms: Collection[str]) -> bool:
    """Whether one of ``terms``, of which each is one word or some joined by dashes, stands in the name."""
    text = f"-{'-'.join(_words(name))}-"
    return any(f"-{term}-" in text for term in terms)


def _words(file: str) -> list[str]:
    return WORD.findall(without_ending(PurePosixPath(file).name).lower())


def _quant(name: str) -> re.Match[str] | None:
    """The last quantization in a name, as the weights themselves are named last; but not that of a part of the model,
    nor sixteen bits beside fewer: those are what the weights were made from, or what the rest is kept in."""
    matches = list(QUANT.finditer(name))
    whole = [match for match in matches if not _is_of_a_part(name, match)] or matches
    fewer = [match for match in whole if _spelt(match[1]) not in SIXTEEN_BITS]
    return next(reversed(fewer or whole), None)


def _is_of_a_part(name: str, match: re.Match[str]) -> bool:
    return bool(OF_A_PART.match(name, match.end()) or BEFORE_REST.search(name[: match.start()]))


def _spelt(spelling: str) -> str:
    """A quantization as llama.cpp spells it: ``Q4_K_M`` for ``Q4KM``, ``F16`` for ``FP16``."""
    text = spelling.upper().replace("UD_", "UD-").replace("FP16", "F16").replace("FP32", "F32")
    prefix, name = ("UD-", text.removeprefix("UD-")) if text.startswith("UD-") else ("", text)
    if re.fullmatch(SHORT, name):
        name = re.sub(r"(?<=[0-9])-?(?=[A-Z01])|(?<=K)-?(?=[SML])", "_", name)
    return prefix + name
