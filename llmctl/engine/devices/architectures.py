"""Asks the installed llama.cpp which architectures it can load, once for each name and build.

No function of the library lists them. Loading a file that holds nothing but a name ends at once, with "unknown" or
"unsupported model architecture" for one that it can't load and with another complaint for one that it can: a tenth of
a millisecond each, in ``python -m llmctl.engine.devices.architectures``.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llmctl import child
from llmctl.engine import binding, devices
from llmctl.files import measured_cache
from llmctl.host import Host

SUBJECT = "architectures"
DEADLINE_S = 10.0
MAX_KEPT = 2000  # names come out of files, so that there may be any number
LOAD_MODE_NONE = 0  # enum llama_load_mode
STRING = 8  # enum gguf_type

UNKNOWN = re.compile(r"(?:unknown|unsupported) model architecture")


def loadable(host: Host, names: Iterable[str], *, also: Iterable[str] = ()) -> frozenset[str] | None:
    """Those of ``names`` that the installed engine can load; None if there is no engine, or it gives no answer.

    Answers are cached. If one of ``names`` is not in the cache, ``also`` is asked about in the same child process.
    """
    wanted, key = frozenset(names), _key() if host.live else None
    if key is None:
        return None
    answers = _answers(measured_cache.read(SUBJECT, key))
    if missing := wanted - answers.keys():
        reply = host.ask("llmctl.engine.devices.architectures", sorted(missing.union(also)), deadline_s=DEADLINE_S)
        answered = _answers(reply.data)
        if not missing <= answered.keys():
            return None
        measured_cache.write(SUBJECT, key, answers | answered if len(answers) < MAX_KEPT else answered)
        answers |= answered
    return frozenset(name for name in wanted if answers.get(name))


def _answers(data: Any) -> dict[str, bool]:
    """The answers of a child or the cache: whether each architecture can be loaded. What can't be read is left out."""
    if not isinstance(data, dict):
        return {}
    return {str(name): value for name, value in data.items() if isinstance(value, bool)}


def _key() -> tuple[object, ...] | None:
    """A cache key that changes with the engine's libraries; None without an engine."""
    folder = devices.libraries()
    try:
        files = sorted(folder.glob("*llama.*")) if folder is not None else []
        return (
            (folder, *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)) if files else None
        )
    except OSError:
        return None


def _ask(names: Sequence[str]) -> dict[str, bool]:
    """In the child: loads a file of each name, and reads the log."""
    binding.functions_only()
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    params: Any = llama_cpp.llama_model_default_params()
    params.vocab_only, params.load_mode = True, LOAD_MODE_NONE
    params.split_mode, params.main_gpu = llama_cpp.LLAMA_SPLIT_MODE_NONE, -1  # no device is woken up
    answers = {}
    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:
        file = Path(folder) / "name.gguf"
        for name in names:
            log.clear()
            file.write_bytes(_named(name))
            llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
            answers[name] = UNKNOWN.search("".join(log)) is None
    return answers


def _named(architecture: str) -> bytes:
    """A GGUF file that states its architecture and nothing else."""
    key, value = b"general.architecture", architecture.encode()
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", STRING, len(value)) + value
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair


if __name__ == "__main__":
    sys.exit(child.answer(_ask))
