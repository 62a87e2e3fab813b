"""The engine's own sums: llama.cpp asked what it would allocate for a file, without allocating it.

``no_alloc`` in ``llama_model_params`` loads metadata only, and the log then states every buffer of this build on this
machine. No weight is read, so a file that holds a header only does as well: it is extended to its full length, as a
sparse copy. A wrong combination of settings aborts the process, so this runs as ``python -m llmctl.engine.dry_run``.
"""

from __future__ import annotations

import ctypes
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmctl import child
from llmctl.engine import cache
from llmctl.engine.loading import KV_TYPES, adjusted
from llmctl.gguf.header import read_file
from llmctl.host import Host
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.machine import EngineInfo
from llmctl.types.plan import Allocation, Configuration

SUBJECT = "dry-run"
DEADLINE_S = 10.0
MIB = 1 << 20
COPIED_AT_ONCE_BYTES = 1 << 20

LOAD_MODE_NONE = 0  # enum llama_load_mode: mapping is refused together with no_alloc

BUFFER = re.compile(r"^\S+: +(\S+) +(compute|output) buffer size = +([\d.]+) MiB", re.MULTILINE)
CACHE = re.compile(r"^llama_kv_cache\w*: size = +([\d.]+) MiB", re.MULTILINE)
STATE = re.compile(r"^llama_memory_recurrent: size = +([\d.]+) MiB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Answer:
    """``why`` in the engine's own words, where it could not."""

    allocation: Allocation | None = None
    why: str | None = None


def dry_run(
    host: Host, engine: EngineInfo, file: Path, configuration: Configuration, *, deadline_s: float = DEADLINE_S
) -> tuple[Allocation | None, str | None]:
    """What ``engine`` would allocate for ``file``, a GGUF file or only the beginning of one; else None and why not.

    What was answered for the same header, settings and build is not asked again. Raises IntegrityError for a file that
    holds no GGUF header.
    """
    if (known := remembered(host, engine, file, configuration)) is not None:
        return known, None
    header = read_file(file, whole=False)
    question = {
        "file": str(file),
        "header_bytes": header.data_offset,
        "file_bytes": header.data_offset + header.tensor_bytes,
        **asdict(configuration),
    }
    reply = host.ask("llmctl.engine.dry_run", question, deadline_s=deadline_s)
    if reply.data is None:
        return None, f"{engine.name} {reply.why}"
    try:
        answer = decode(_Answer, reply.data, SUBJECT)
    except MismatchError as error:
        return None, str(error)
    if answer.allocation is not None and host.live:
        cache.write(SUBJECT, _key(engine, file, configuration), asdict(answer.allocation))
    return answer.allocation, answer.why


def remembered(host: Host, engine: EngineInfo, file: Path, configuration: Configuration) -> Allocation | None:
    """What was answered before for the same file, settings and build; nothing is asked."""
    known = cache.read(SUBJECT, _key(engine, file, configuration)) if host.live and file.is_file() else None
    try:
        return None if known is None else decode(Allocation, known, SUBJECT)
    except MismatchError:
        return None  # written by another version of ours


def _key(engine: EngineInfo, file: Path, configuration: Configuration) -> tuple[object, ...]:
    about = file.stat()
    settings = asdict(configuration).values()
    return (file.resolve(), about.st_size, about.st_mtime_ns, *settings, engine.version, engine.build)


def _tell(question: Mapping[str, Any]) -> dict[str, Any]:
    """In the child: loads the metadata, makes a context, and reads the log."""
    import llama_cpp

    log: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:
        file = _whole(question, Path(folder))
        loading: Any = llama_cpp.llama_model_default_params()
        loading.no_alloc, loading.load_mode = True, LOAD_MODE_NONE
        with adjusted(loading, question):
            model = llama_cpp.llama_model_load_from_file(str(file).encode(), loading)
        context = model and llama_cpp.llama_init_from_model(model, _params(llama_cpp, question))
    text = "".join(log)
    if not context:
        said = [line for line in text.splitlines() if "error" in line or "require" in line]
        return {"why": f"llama.cpp refuses: {said[-1] if said else text[-200:]}"[:300]}
    return {"allocation": asdict(_allocation(text))}


def _params(llama_cpp: Any, question: Mapping[str, Any]) -> Any:
    """llama_context_params as the worker sets them."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = question["context"] * question["sequences"]
    params.n_seq_max = question["sequences"]
    params.n_batch = max(question["ubatch"], params.n_batch)
    params.n_ubatch = question["ubatch"]
    params.swa_full = question["swa_full"]
    params.flash_attn_type = int(question["flash_attention"])
    params.type_k = params.type_v = KV_TYPES[question["kv_type"]]
    return params


def _whole(question: Mapping[str, Any], folder: Path) -> Path:
    """The file, or a sparse copy of its header at its full length, if that is all there is."""
    file, full_bytes = Path(question["file"]), question["file_bytes"]
    if file.stat().st_size >= full_bytes:
        return file
    copy, left = folder / "header.gguf", question["header_bytes"]
    with file.open("rb") as source, copy.open("wb") as target:
        while left and (piece := source.read(min(left, COPIED_AT_ONCE_BYTES))):
            target.write(piece)
            left -= len(piece)
        target.truncate(full_bytes)
    return copy


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
