"""The architectures that the installed llama.cpp can load: the table of names in its own library.

LLM_ARCH_NAMES in src/llama-arch.cpp ends with "(unknown)" and is kept as text, one name after the other, in every build
that was looked at. No function of the library tells it, and to ask by loading takes a process and a file for each name.
A linker keeps a name that is the tail of another one only once: ``planner.limits.knows`` allows for that.
"""

from __future__ import annotations

import re
from pathlib import Path

from llmctl.engine import devices

LIBRARIES = ("libllama.so", "libllama.dylib", "llama.dll", "libllama.dll")
TABLE = re.compile(rb"\0llama\0((?:[a-z0-9][a-z0-9._-]{0,39}\0+){40,400})\(unknown\)\0")


def known() -> frozenset[str] | None:
    """None where there is no engine, or no such table in its library: then it isn't known what it can load."""
    folder = devices.libraries()
    for name in LIBRARIES if folder is not None else ():
        file = Path(folder or "") / name
        try:
            return named(file.read_bytes())
        except OSError:
            continue
    return None


def named(library: bytes) -> frozenset[str] | None:
    """The names in a library's bytes."""
    found = TABLE.search(library)
    return None if found is None else frozenset({"llama", *re.findall(r"[^\0]+", found[1].decode("ascii"))})
