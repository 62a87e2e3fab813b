"""Tells what a GGUF file is for, by its general.type and architecture: to answer, to embed or score texts, or no model
by itself.

Sources: GGUFType in gguf-py/gguf/constants.py, tools/imatrix and tools/cvector-generator of llama.cpp at 0c1e570,
2026-10; the architectures' names that stable-diffusion.cpp, ComfyUI-GGUF and TTS.cpp write.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from llmctl.errors import UnsupportedFileError
from llmctl.gguf.layers import DIFFUSION, ENCODERS
from llmctl.types.header import Header

MODEL = "model"
PROJECTOR = "clip"
CONTROL_VECTOR = "controlvector"
ENCODER_DECODER = "t5"

EMBEDDERS = ENCODERS | {"llama-embed", "t5encoder"}
"""They make vectors, whatever their headers say of pooling."""

DRAFTS = frozenset({"dflash", "eagle3", "gemma4-assistant"})
"""They propose tokens to the model that they were trained with, and use its hidden states."""

PICTURES = frozenset(
    {
        *(
            "aura",
            "chroma",
            "cosmos",
            "flux",
            "flux2",
            "hidream",
            "hunyuan_image",
            "hyvid",
            "ltxv",
            "lumina2",
            "pixart",
        ),
        *("qwen_image", "sd", "sd1", "sd2", "sd3", "sdxl", "wan", "z_image"),
    }
)
"""They make pictures or films out of noise."""

SPEECH = frozenset(
    {
        *("bark", "csm", "dac", "dia", "encodec", "kokoro", "moonshine", "parakeet", "parler-tts", "pockettts"),
        *("qwen3tts", "snac", "wavtokenizer-dec", "whisper"),
    }
)
"""They make sound out of tokens, or text out of sound."""

BY_TYPE: Mapping[str, str] = {
    "adapter": "is an adapter (for --lora with the model that it was trained on), not a model",
    "imatrix": "is an importance matrix, which llama-quantize uses, not a model",
    "mmproj": "is a vision projector (for --mmproj of its model), not a language model",
}
"""general.type -> what such a file is, to go on from its name."""

BY_KEY: Mapping[str, str] = {"adapter.": "adapter", "imatrix.": "imatrix", "clip.": "mmproj"}
"""How the keys begin that only such files have -> the general.type that older ones lack."""

WITHOUT_TOKENIZER = ("no_vocab", "none")

BY_ARCHITECTURE: Mapping[str, str] = {
    CONTROL_VECTOR: "is a control vector (for --control-vector with its model), not a model",
    ENCODER_DECODER: "is an encoder-decoder model, which can't be run here: llmctl's engine continues text",
    **dict.fromkeys(DRAFTS, "is a draft model (for --model-draft with its model), it can't answer by itself"),
    **dict.fromkeys(PICTURES, "is a model that makes pictures, not a language model"),
    **dict.fromkeys(SPEECH, "is a speech model, not a language model"),
    **dict.fromkeys(
        DIFFUSION, "is a diffusion language model, which can't be run here: llmctl's engine writes token by token"
    ),
}
"""general.architecture -> what such a file is, to go on from its name."""

CHOOSE_HINT = "llmctl plan   shows what can answer here"
PROJECTOR_HINT = "llmctl plan MODEL.gguf   counts the projector that lies beside a model"


class Pooling(IntEnum):
    """enum llama_pooling_type: what is made of the vectors of a text's tokens."""

    NONE = 0
    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


def tasks(header: Header) -> tuple[str, ...]:
    """What a model is for, as the catalogue names it: nothing for one that continues text."""
    pooling = header.metadata.get(f"{header.architecture}.pooling_type", Pooling.NONE)
    if pooling == Pooling.RANK:
        return ("rerank",)
    if pooling in (Pooling.MEAN, Pooling.CLS, Pooling.LAST) or header.architecture in EMBEDDERS:
        return ("embed",)
    return ("chat",) if header.chat_template else ()


def require_language_model(header: Header) -> None:
    """Raises UnsupportedFileError, its message without the subject, for what is no model that reads and writes text
    token by token. ``header`` is that of all parts together."""
    kind, architecture = header.metadata.get("general.type", MODEL), header.architecture
    if "general.type" not in header.metadata:
        kind = next((kind for begin, kind in BY_KEY.items() if _has_keys(header, begin)), MODEL)
    if architecture == PROJECTOR or kind == "mmproj":
        raise UnsupportedFileError(_projector(header), hint=PROJECTOR_HINT)
    sentence = BY_TYPE.get(str(kind)) or BY_ARCHITECTURE.get(architecture.lower())
    if sentence is None and not header.tensors:
        sentence = "holds only a vocabulary, no weights"
    if sentence is None and not _has_keys(header, f"{architecture}."):
        sentence = f"is no language model: its header has no figures of {architecture or 'an architecture'}"
    if sentence is not None:
        raise UnsupportedFileError(sentence, hint=CHOOSE_HINT)


def _has_keys(header: Header, begin: str) -> bool:
    return any(key.startswith(begin) for key in header.metadata)


def _projector(header: Header) -> str:
    hears = bool(header.metadata.get("clip.has_audio_encoder")) and not header.metadata.get("clip.has_vision_encoder")
    return BY_TYPE["mmproj"].replace("a vision", "an audio") if hears else BY_TYPE["mmproj"]
