"""Why llama.cpp can't load a file, in words for a person: what is wrong with the file, or what this build lacks."""

from __future__ import annotations

import re

from msgspec import Struct

from llmctl.printable import printable

SHOWN_CHARACTERS = 200


class FileRefusal(Struct, frozen=True):
    """``meaning`` is what llama.cpp's words, ``said``, mean; empty where that isn't known. ``said`` is empty where the
    header tells it without an engine. ``broken``: the file is; else it is sound, and this engine can't do it: then
    ``meaning`` goes on from the file's name."""

    meaning: str
    said: str
    broken: bool

    @property
    def reason(self) -> str:
        """To go on from the file's name."""
        words = f"can't be loaded{self.meaning and ': '}{self.meaning}" if self.broken else self.meaning
        return f"{words} (llama.cpp: {self.said})" if self.said else words

    @property
    def why(self) -> str:
        """To go on from "can't load NAME: "."""
        if not self.meaning:
            return self.said
        return f"{'' if self.broken else 'it '}{self.meaning} (llama.cpp: {self.said})"


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
    ("not within the file bounds|corrupted or incomplete", "it is cut off: a tensor lies behind its end"),
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


LACKS_MEMORY = re.compile(
    r"bad_alloc|out of memory|[Oo]ut_?[Oo]f_?([Hh]ost|[Dd]evice)_?[Mm]emory|[Cc]annot allocate memory|MemoryError"
    r"|(failed|unable|cannot|insufficient memory).*allocat"
)
IN_BYTES, IN_MIB = re.compile(r"of size (\d+)(?![\d.])"), re.compile(r"(?:of size|allocat\w*) +([\d.]+) Mi?B")
"""What was asked for, in llama.cpp's words on an allocation that failed."""


def is_about_file(words: str) -> bool:
    """Whether llama.cpp's ``words`` are about the file, and not about memory, threads or rights that it lacked."""
    return re.search(r"bad_alloc|system_error|out of memory|allocate|failed to open", words) is None


def lacks_memory(words: str) -> bool:
    """Whether llama.cpp's ``words`` say that it could not get memory."""
    return LACKS_MEMORY.search(words) is not None


def refused_bytes(words: str) -> int | None:
    """The bytes of the allocation that failed, by llama.cpp's ``words``; None where they don't tell."""
    if (in_bytes := IN_BYTES.search(words)) is not None:
        return int(in_bytes[1])
    in_mib = IN_MIB.search(words)
    return None if in_mib is None else round(float(in_mib[1]) * (1 << 20))


def explained(words: str) -> FileRefusal:
    """What llama.cpp's ``words`` on a file that it doesn't load, or with which it ends, mean."""
    said = printable(BEFORE_THE_WORDS.sub("", words.strip()) or words, SHOWN_CHARACTERS)
    for pattern, sentence in UNSUPPORTED:
        if re.search(pattern, words):
            return FileRefusal(sentence, said, broken=False)
    for pattern, sentence in BROKEN:
        if re.search(pattern, words):
            return FileRefusal(sentence, said, broken=True)
    return FileRefusal("", said, broken=True)
