"""What ran here: predicted memory and speed beside measured, one line a run, without a word of prompt or answer.

``history.jsonl`` in the data folder. A run appends its line with one write, which the system keeps apart from the
writes of others; when the file has grown to LIMIT_BYTES it becomes ``history.old.jsonl`` and takes the place of the
one before. So the last 100 to 200 runs are kept, and recording one takes no lock and rewrites nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmctl import paths
from llmctl.engine.supervise import Engine
from llmctl.errors import ResourceError
from llmctl.host import Host
from llmctl.probe import cpu as processor
from llmctl.probe.decode import MismatchError, decode
from llmctl.types.answer import Finished, Measured
from llmctl.types.plan import CPU, Fit

LIMIT_BYTES = 64 << 10  # a line has some 650 bytes


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was predicted of a run: ``anonymous_bytes`` must fit into the machine's own memory, ``device_bytes`` into
    that of all devices together; their sum is the plan's ``must_fit_bytes``."""

    anonymous_bytes: int
    device_bytes: int
    decode_tok_s: float
    prefill_tok_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The same, measured (types.answer.Measured); None is unknown."""

    anonymous_bytes: int | None
    device_bytes: int | None
    decode_tok_s: float | None
    prefill_tok_s: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``date`` is UTC in ISO 8601. The file is known by its size and its sha256 (None for one that nobody has
    told the sum of), never by its path. ``engine`` names the exact build. ``load_s`` is the time until it answered."""

    date: str
    model: str
    quant: str
    file_bytes: int | None
    sha256: str | None
    context: int
    kv_type: str
    gpu_layers: int
    threads: int
    engine: str
    processor: str
    prompt_tokens: int | None
    completion_tokens: int | None
    load_s: float
    predicted: Forecast
    measured: Figures


def run_of(
    fit: Fit,
    engine: Engine,
    finished: Finished,
    decode_tok_s: float | None,
    prefill_tok_s: float | None,
) -> Run:
    """What there is to record of ``fit`` when ``engine`` has answered with it, now."""
    memory, usage = finished.measured or Measured(None, None), finished.usage
    on_devices = sum(row.total_bytes for row in fit.memory.by_device if row.device != CPU)
    speed, source = fit.speed, fit.candidate.artifact.source
    return Run(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        model=fit.candidate.model.id,
        quant=fit.candidate.artifact.quant,
        file_bytes=source.bytes,
        sha256=source.sha256,
        context=fit.context,
        kv_type=fit.kv_type,
        gpu_layers=fit.gpu_layers,
        threads=fit.threads,
        engine=engine.build,
        processor=processor.name(Host()),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        load_s=engine.load_s,
        predicted=Forecast(fit.memory.must_fit_bytes - on_devices, on_devices, speed.decode_tok_s, speed.prefill_tok_s),
        measured=Figures(memory.anonymous_bytes, memory.device_bytes, decode_tok_s, prefill_tok_s),
    )


def record(run: Run) -> None:
    """Appends it. Whoever can't write this file runs models all the same, so nothing is raised."""
    file, line = _file(), json.dumps(asdict(run)).encode() + b"\n"
    with contextlib.suppress(OSError, ResourceError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab+", buffering=0, opener=_private) as out:
            size = out.seek(0, os.SEEK_END)
            if size:
                out.seek(-1, os.SEEK_END)
                if out.read(1) != b"\n":  # somebody was stopped in the middle
                    line = b"\n" + line
            out.write(line)
        if size + len(line) >= LIMIT_BYTES:
            _begin_anew(file)


def read() -> tuple[Run, ...]:
    """The runs that are remembered, the oldest first. What can't be read, or was written by another version of ours,
    is left out."""
    return tuple(_runs())


def _runs() -> Iterator[Run]:
    for file in (_older(_file()), _file()):
        try:
            with file.open("rb") as stream:
                lines = stream.read(4 * LIMIT_BYTES).split(b"\n")
        except OSError:
            continue
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError, MismatchError):
                yield decode(Run, json.loads(line), "run")


def _begin_anew(file: Path) -> None:
    """Whoever has opened the file by then still writes into it, under its new name."""
    from llmctl.store.lock import locked

    with locked(file.with_suffix(".lock"), waiting=lambda: None):
        if file.stat().st_size >= LIMIT_BYTES:  # not done by another run meanwhile
            file.replace(_older(file))


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _older(file: Path) -> Path:
    return file.with_suffix(".old.jsonl")


def _file() -> Path:
    return paths.data_dir() / "history.jsonl"
