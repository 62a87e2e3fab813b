"""The record of runs on this machine: predicted and measured memory and speed, one line a run, no prompt or answer.

``history.jsonl`` in the data folder. A run appends its line with one write, which the system keeps apart from the
writes of others; when the file has grown to LIMIT_BYTES it becomes ``history.old.jsonl`` and takes the place of the
one before. So the last 100 to 200 runs are kept, and recording one takes no lock and rewrites nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl import paths
from llmctl.errors import ResourceError
from llmctl.files import disk
from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.probe import cpu as processor
from llmctl.struct import asdict
from llmctl.types.past import PastRun
from llmctl.types.plan import CPU, Fit
from llmctl.types.speed_model import SpeedModel

if TYPE_CHECKING:
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.event import Finished

LIMIT_BYTES = 72 << 10  # a line has some 700 bytes


# Times that a thread lost its core, for each second of computing, from which on a run says nothing of the machine. It
# was 5 to 26 on two quiet cores, and hundreds beside one other program that computes.
DISTURBED_PER_S = 50
LEAST_ANSWER = 16  # tokens that say something of a rate
LEAST_PROMPT = 64
# Where the system doesn't count that, so much off the prediction is taken for a disturbance.
IMPLAUSIBLE = 3.0


class PredictedRun(Struct, frozen=True):
    """What was predicted of a run: ``anonymous_bytes`` must fit into the machine's own memory, ``device_bytes`` into
    that of all devices together; their sum is the plan's ``must_fit_bytes``. The rates are those for this very prompt
    and answer, without what was learned from earlier runs; None where it is not known how long they were. ``modelled``:
    they came from rates that nobody had measured here."""

    anonymous_bytes: int
    device_bytes: int
    decode_tok_s: float | None
    prefill_tok_s: float | None
    modelled: bool = False


class MeasuredRun(Struct, frozen=True):
    """What was measured of a run (types.answer.Measured); None is unknown. ``preempted_per_s`` is how often other
    programs took a core away, for each second that a core computed."""

    anonymous_bytes: int | None
    device_bytes: int | None
    decode_tok_s: float | None
    prefill_tok_s: float | None
    preempted_per_s: float | None


class Run(Struct, frozen=True):
    """One run. ``date`` is UTC in ISO 8601. The file is identified by its size and its sha256 (None where it is not
    known), never by its path. ``engine`` names the exact build. ``load_s`` is the time until it answered, 0 where
    the engine had stayed loaded. ``prefill_tokens`` are those of the prompt that were computed; ``accepted_tokens`` of
    ``drafted_tokens`` were guessed rightly, ``compared_tokens`` are those up to the first wrong one of each draft, and
    ``draft`` the model that drafted them."""

    date: str
    model: str
    quant: str
    file_bytes: int | None
    sha256: str | None
    context: int
    kv_type: str
    gpu_layers: int
    threads: int
    prefill_threads: int
    repack: bool
    flash_attention: bool
    engine: str
    processor: str
    prompt_tokens: int | None
    prefill_tokens: int | None
    completion_tokens: int | None
    load_s: float
    predicted: PredictedRun
    measured: MeasuredRun
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None
    compared_tokens: int | None = None
    draft: str | None = None


def run_of(
    fit: Fit,
    engine: LoadedEngine,
    finished: Finished,
    decode_tok_s: float | None,
    prefill_tok_s: float | None,
) -> Run:
    """The record of a run of ``fit`` that has just been answered by ``engine``."""
    from llmctl.types.event import Measured

    memory, usage = finished.measured or Measured(None, None), finished.usage
    on_devices = sum(row.total_bytes for row in fit.memory.by_device if row.device != CPU)
    source = fit.candidate.artifact.source
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
        prefill_threads=fit.prefill_threads,
        repack=fit.configuration.repack,
        flash_attention=fit.configuration.flash_attention,
        engine=engine.build,
        processor=processor.name(Host()),
        prompt_tokens=usage.prompt_tokens,
        prefill_tokens=finished.prefill_tokens,
        completion_tokens=usage.completion_tokens,
        load_s=0.0 if engine.was_warm else engine.load_s,
        predicted=PredictedRun(
            fit.memory.must_fit_bytes - on_devices, on_devices, *_rates(fit.uncorrected, finished), fit.modelled
        ),
        measured=MeasuredRun(
            memory.anonymous_bytes,
            memory.device_bytes,
            _plain_tok_s(finished) if finished.drafted_tokens else decode_tok_s,
            prefill_tok_s,
            finished.preempted_per_s,
        ),
        drafted_tokens=finished.drafted_tokens,
        accepted_tokens=finished.accepted_tokens,
        compared_tokens=finished.compared_tokens,
        draft=None if fit.draft is None else fit.draft.candidate.model.id,
    )


def _plain_tok_s(finished: Finished) -> float | None:
    """The rate of decoding without drafted tokens, which is what was predicted; None where that were too few."""
    tokens, seconds = finished.plain_tokens or 0, finished.plain_s
    return tokens / seconds if seconds and tokens >= LEAST_ANSWER else None


def _rates(speed_model: SpeedModel, finished: Finished) -> tuple[float | None, float | None]:
    """Predicted tokens per second of decoding, at the average depth of this answer, and of prefill; None where the
    lengths are not known."""
    prompt, answer, computed = finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.prefill_tokens
    decode = None if prompt is None or answer is None else speed_model.decode_tok_s(prompt + answer / 2)
    prefill = None if prompt is None or not computed else speed_model.prefill_tok_s(computed, max(0, prompt - computed))
    return decode, prefill


def past(runs: Iterable[Run], build: str) -> tuple[PastRun, ...]:
    """The runs on this processor with this build of the engine, as the planner takes them."""
    processor_name = processor.name(Host())
    return tuple(
        PastRun(
            model=run.model,
            quant=run.quant,
            file_bytes=run.file_bytes,
            sha256=run.sha256,
            kv_type=run.kv_type,
            gpu_layers=run.gpu_layers,
            repack=run.repack,
            flash_attention=run.flash_attention,
            threads=run.threads,
            prefill_threads=run.prefill_threads,
            decode=_taught(run, run.completion_tokens, LEAST_ANSWER, lambda rates: rates.decode_tok_s),
            prefill=_taught(run, run.prefill_tokens, LEAST_PROMPT, lambda rates: rates.prefill_tok_s),
            load_s=run.load_s,
            depth=(run.prompt_tokens or 0) + (run.completion_tokens or 0) / 2,
            read_tokens=run.prefill_tokens or 0,
            modelled=run.predicted.modelled,
            drafted_tokens=run.drafted_tokens or 0,
            accepted_tokens=run.accepted_tokens or 0,
            compared_tokens=run.compared_tokens or 0,
            draft=run.draft,
            date=run.date,
        )
        for run in runs
        if run.engine == build and run.processor == processor_name
    )


def _taught(
    run: Run, tokens: int | None, least: int, rate: Callable[[PredictedRun | MeasuredRun], float | None]
) -> float | None:
    """Measured over predicted rate; None where too little was written, or other programs disturbed the run."""
    measured, predicted = rate(run.measured), rate(run.predicted)
    if not measured or not predicted or (tokens or 0) < least:
        return None
    ratio, preempted = measured / predicted, run.measured.preempted_per_s
    if preempted is None:
        return ratio if 1 / IMPLAUSIBLE < ratio < IMPLAUSIBLE else None
    return ratio if preempted < DISTURBED_PER_S else None


def record(run: Run) -> None:
    """Appends a run to the file. Raises ResourceError where the disk is full; where nothing may be written, nothing is
    recorded."""
    file = _file()
    try:
        _append(file, json.dumps(asdict(run)).encode() + b"\n")
    except OSError as error:
        if error.errno in disk.FULL:
            raise ResourceError(f"the disk is full: {file} could not be written") from error


def _append(file: Path, line: bytes) -> None:
    """Raises OSError."""
    with contextlib.suppress(ResourceError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab+", buffering=0, opener=_private) as out:
            size = out.seek(0, os.SEEK_END)
            if size:
                out.seek(-1, os.SEEK_END)
                if out.read(1) != b"\n":  # a writer was stopped in the middle of a line
                    line = b"\n" + line
            if out.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if size + len(line) >= LIMIT_BYTES:
            _begin_anew(file)


def read() -> tuple[Run, ...]:
    """The recorded runs, the oldest first. Lines that can't be read, or that another version of llmctl wrote, are left
    out."""
    return tuple(_runs())


def _runs() -> Iterator[Run]:
    for file in (_older(_file()), _file()):
        try:
            with file.open("rb") as stream:
                lines = stream.read(4 * LIMIT_BYTES).split(b"\n")
        except OSError:
            continue
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError, FieldError):
                yield decode(Run, json.loads(line), "run")


def _begin_anew(file: Path) -> None:
    """Renames a full file to that of older runs; a process that has it open still writes into it."""
    from llmctl.files.lock import locked

    with locked(file.with_suffix(".lock"), waiting=lambda: None):
        if file.stat().st_size >= LIMIT_BYTES:  # not done by another run meanwhile
            file.replace(_older(file))


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _older(file: Path) -> Path:
    return file.with_suffix(".old.jsonl")


def _file() -> Path:
    return paths.data_dir() / "history.jsonl"
