"""Why llama.cpp can't load a file, in words for a person: what is wrong with the file, or what this build lacks."""

from __future__ import annotations

import re

from msgspec import Struct

from llmctl.printable import printable

SHOWN_CHARACTERS = 200


class FileRefusal(Struct, frozen=True):
    """``reason`` goes on from the file's name. ``broken``: the file is; else it is sound, and this engine can't do
    it."""

    reason: str
    broken: bool


BEFORE_THE_WORDS = re.compile(
    r"^(?:crashed \(signal \d+\) )?(?:[\w~:]+(?:\(\))?: |error loading model(?: \w+)?: |\S+\.(?:cpp|c|h):\d+: )*"
)
"""What llama.cpp puts before its words: functions, places in its source, what it was doing."""

UNSUPPORTED: tuple[tuple[str, str], ...] = (
    ("(?:unknown|unsupported) model architecture", "has an architecture that the installed engine can't load"),
    ("invalid ggml type", "has weights of a type that the installed engine does not have"),
    ("CLIP cannot be used as main model", "is a vision projector (for --mmproj of its model), not a language model"),
    ("requires ctx_other", "is a draft model (for --model-draft with its model), it can't answer by itself"),
    ("GGUF file is version|GGUFv1", "is in a version of GGUF that the installed engine does not read"),
)
"""Words of llama.cpp -> what such a sound file is, to go on from its name."""

BROKEN: tuple[tuple[str, str], ...] = (
    ("missing tensor|tensor '.*' not found", "a tensor is missing"),
    ("has wrong shape", "a tensor has the wrong shape"),
    ("wrong number of tensors|too many tensors", "it has tensors that its model doesn't"),
    ("key not found", "its header lacks a figure"),
    ("has wrong type|wrong array|is not a .* array|expected scalar|invalid gguf type", "a figure is of the wrong kind"),
    ("array length|N_MAX|out of array bounds", "a list in its header has the wrong length"),
    ("unknown pre-tokenizer|unknown tokenizer", "its tokenizer is not known to the installed engine"),
    ("tokenizer", "its tokenizer is incomplete"),
    ("invalid n_rot", "its rope doesn't fit its heads"),
    ("GGML_ASSERT|signal", "its figures don't fit together, so that llama.cpp stops"),
)
"""Words of llama.cpp -> what is wrong with the file."""


def is_about_file(words: str) -> bool:
    """Whether llama.cpp's ``words`` are about the file, and not about memory, threads or rights that it lacked."""
    return re.search(r"bad_alloc|system_error|out of memory|allocate|failed to open", words) is None


def explained(words: str) -> FileRefusal:
    """What llama.cpp's ``words`` on a file that it doesn't load, or with which it ends, mean."""
    said = printable(BEFORE_THE_WORDS.sub("", words.strip()) or words, SHOWN_CHARACTERS)
    for pattern, sentence in UNSUPPORTED:
        if re.search(pattern, words):
            return FileRefusal(f"{sentence} (llama.cpp: {said})", broken=False)
    for pattern, sentence in BROKEN:
        if re.search(pattern, words):
            return FileRefusal(f"can't be loaded: {sentence} (llama.cpp: {said})", broken=True)
    return FileRefusal(f"can't be loaded (llama.cpp: {said})", broken=True)
