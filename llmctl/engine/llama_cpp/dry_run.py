"""The engine's own sums: llama.cpp asked what it would allocate for a file, without allocating it, or why it can't.

``no_alloc`` in ``llama_model_params`` loads metadata only, and the log then states every buffer of this build on this
machine. No weight is read, so a file that holds a header only does as well (``header_copy``). A wrong combination of
settings, and a broken file, abort the process, so this runs as ``python -m llmctl.engine.llama_cpp.dry_run``.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmctl import child
from llmctl.child import Reply
from llmctl.engine import binding
from llmctl.engine.llama_cpp import header_copy
from llmctl.engine.llama_cpp.loading import adjusted, context_params
from llmctl.engine.llama_cpp.refusal import FileRefusal, explained, is_about_file
from llmctl.engine.log import WITHOUT_BACKTRACE
from llmctl.files import measured_cache
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.struct import asdict
from llmctl.types.machine import EngineInfo
from llmctl.types.plan import Allocation, Configuration

SUBJECT = "dry-run"
REFUSALS = "refusal"
SOUND = ""  # what is kept as the words of a refusal where there was none
DEADLINE_S = 10.0
MIB = 1 << 20
GGML_LOG_LEVEL_ERROR = 4  # ggml.h, enum ggml_log_level

LOAD_MODE_NONE = 0  # enum llama_load_mode: mapping is refused together with no_alloc
FLASH_ATTENTION_AUTO = -1  # enum llama_flash_attn_type
PLAINEST = Configuration(256, repack=False)  # with which every file that can be loaded at all is loaded

LOADING = re.compile(r"error loading model")
UNSPECIFIC = re.compile(r"failed to (?:load|read|seek)|failed to initialize the context: *$")
BUFFER = re.compile(r"^\S+: +(\S+) +(compute|output) buffer size = +([\d.]+) MiB", re.MULTILINE)
CACHE = re.compile(r"^llama_kv_cache\w*: size = +([\d.]+) MiB", re.MULTILINE)
STATE = re.compile(r"^llama_memory_recurrent: size = +([\d.]+) MiB", re.MULTILINE)


class _Answer(Struct, frozen=True):
    """``why`` in the engine's own words, where it could not; ``refused`` where it can't with the plainest settings
    either."""

    allocation: Allocation | None = None
    why: str | None = None
    refused: str | None = None


def dry_run(
    host: Host, engine: EngineInfo, file: Path, configuration: Configuration, *, deadline_s: float = DEADLINE_S
) -> tuple[Allocation | None, str | None]:
    """What ``engine`` would allocate for ``file``, a GGUF file or only the beginning of one; else None and why not.

    What was answered for the same header, settings and build is not asked again. Raises IntegrityError and
    UnsupportedFileError for a file that holds no GGUF header.
    """
    if (earlier := remembered(host, engine, file, configuration)) is not None:
        return earlier, None
    answer, reply = _asked(host, file, configuration, deadline_s)
    if answer is None:
        return None, f"{engine.name} {reply.why}"
    if answer.allocation is not None and host.live:
        measured_cache.write(SUBJECT, _key(engine, file, configuration), asdict(answer.allocation))
    if answer.refused is not None and is_about_file(answer.refused) and host.live:
        measured_cache.write(REFUSALS, _key(engine, file, PLAINEST), answer.refused)
    return answer.allocation, answer.why


def refusal(host: Host, engine: EngineInfo, file: Path, *, ask: bool = True) -> FileRefusal | None:
    """Why ``engine`` can't load ``file``, whatever the settings; None where it can, or doesn't say.

    It is loaded with the plainest settings, on the processor; ending in an assertion, or by a wrong address, is a
    refusal as well, running out of time or memory isn't. What was answered before is not asked again, and nothing is
    without ``ask``. Raises as ``dry_run``.
    """
    key = _key(engine, file, PLAINEST)
    words = measured_cache.read(REFUSALS, key) if host.live else None
    if words is None and ask:
        answer, reply = _asked(host, file, None, DEADLINE_S)
        words = (answer.refused or SOUND) if answer is not None else reply.why if reply.crashed else None
        if words is None or not is_about_file(words):
            return None
        if host.live:
            measured_cache.write(REFUSALS, key, words)
    return explained(words) if isinstance(words, str) and words != SOUND else None


def _asked(
    host: Host, file: Path, configuration: Configuration | None, deadline_s: float
) -> tuple[_Answer | None, Reply]:
    """The child's answer, None if there is none that can be read; without a configuration, with PLAINEST alone."""
    question = {
        "parts": header_copy.parts(file),
        "settings": None if configuration is None else asdict(configuration),
        "plainest": asdict(PLAINEST),
    }
    quiet = replace(host, environ={**host.environ, **WITHOUT_BACKTRACE})
    reply = quiet.ask("llmctl.engine.llama_cpp.dry_run", question, deadline_s=deadline_s)
    try:
        return (None if reply.data is None else decode(_Answer, reply.data, SUBJECT)), reply
    except FieldError as error:
        return None, Reply(None, f"gave an answer that can't be read ({error})")


def remembered(host: Host, engine: EngineInfo, file: Path, configuration: Configuration) -> Allocation | None:
    """What was answered before for the same file, settings and build; nothing is asked."""
    earlier = measured_cache.read(SUBJECT, _key(engine, file, configuration)) if host.live and file.is_file() else None
    try:
        return None if earlier is None else decode(Allocation, earlier, SUBJECT)
    except FieldError:
        return None  # written by another version of ours


def _key(engine: EngineInfo, file: Path, configuration: Configuration) -> tuple[object, ...]:
    about = file.stat()
    settings = asdict(configuration).values()
    return (file.resolve(), about.st_size, about.st_mtime_ns, *settings, engine.version, engine.build)


class _Log:
    """What llama.cpp says, piece by piece, and which of it are errors."""

    def __init__(self, llama_cpp: Any) -> None:
        self.pieces: list[str] = []
        self._errors: list[str] = []
        self._keep = llama_cpp.llama_log_callback(self._add)  # ctypes does not hold a reference for us
        llama_cpp.llama_log_set(self._keep, ctypes.c_void_p(0))

    def _add(self, level: int, text: bytes, data: Any) -> None:
        piece = text.decode("utf-8", "replace")
        self.pieces.append(piece)
        if level == GGML_LOG_LEVEL_ERROR:
            self._errors.append(piece.strip())

    def clear(self) -> None:
        self.pieces.clear()
        self._errors.clear()

    @property
    def why(self) -> str:
        """The error that says most: the one of loading, unless that only says that there was another one."""
        loading = [line for line in self._errors if LOADING.search(line) and not UNSPECIFIC.search(line)]
        specific = [line for line in self._errors if not UNSPECIFIC.search(line)]
        said = loading or specific or self._errors or ["".join(self.pieces)[-200:]]
        return said[0][:300]


def _tell(question: Mapping[str, Any]) -> dict[str, Any]:
    """In the child: what is allocated with the settings; where that fails, whether the plainest ones do better."""
    binding.functions_only()
    import llama_cpp

    log = _Log(llama_cpp)
    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:
        file = header_copy.whole(question["parts"], Path(folder))
        settings = question["settings"]
        if settings is not None and _loads(llama_cpp, file, settings, plain=False):
            return {"allocation": asdict(_allocation("".join(log.pieces)))}
        why = log.why if settings is not None else None
        log.clear()
        if not _loads(llama_cpp, file, question["plainest"], plain=True):
            return {"why": why or log.why, "refused": log.why}
    if settings is None:
        return {"allocation": asdict(_allocation("".join(log.pieces)))}
    return {"why": why}


def _loads(llama_cpp: Any, file: Path, settings: Mapping[str, Any], *, plain: bool) -> bool:
    """Whether a model and a context can be made. ``plain``: on the processor, with whatever attention it takes."""
    loading: Any = llama_cpp.llama_model_default_params()
    loading.no_alloc, loading.load_mode = True, LOAD_MODE_NONE
    if plain:
        loading.split_mode, loading.main_gpu = llama_cpp.LLAMA_SPLIT_MODE_NONE, -1  # no device is woken up
    with adjusted(loading, settings):
        model = llama_cpp.llama_model_load_from_file(os.fsencode(file), loading)
    params = context_params(settings)
    if plain:
        params.flash_attn_type = FLASH_ATTENTION_AUTO
    return bool(model and llama_cpp.llama_init_from_model(model, params))


def _allocation(log: str) -> Allocation:
    """The sums in llama.cpp's log. Of a cache only the totals are right: without memory its buffers are empty."""
    buffers = [(name, kind, _bytes(mib)) for name, kind, mib in BUFFER.findall(log)]
    return Allocation(
        kv_bytes=sum(map(_bytes, CACHE.findall(log))),
        state_bytes=sum(map(_bytes, STATE.findall(log))),
        output_bytes=sum(size for _, kind, size in buffers if kind == "output"),
        compute_bytes={name: size for name, kind, size in buffers if kind == "compute"},
    )


def _bytes(mib: str) -> int:
    return round(float(mib) * MIB)


if __name__ == "__main__":
    sys.exit(child.answer(_tell))
