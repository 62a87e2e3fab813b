"""What the engine really does here, beside what was predicted: which settings and depths are measured, and the runs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmctl import units
from llmctl.engine import history
from llmctl.engine.history import Run
from llmctl.engine.llama_cpp.start import start
from llmctl.errors import NotFoundError, NothingFitsError, ResourceError, UsageError
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit, NoFit, Want
from llmctl.workspace import choose
from llmctl.workspace.bench import ANSWER_TOKENS, SAMPLE_WORDS, BenchRow, rounds
from llmctl.workspace.situation import Situation, look, shelf, want

__all__ = ["Benchmark", "Result", "Run", "affordable", "measure", "prepare"]

DEPTHS = (0, 512, 2048, 8192, 32768)
BUDGET_S = 120.0  # where no depths are asked for, deeper ones are left out that would take longer in all
LEAST_DEPTHS = 2
SLACK_TOKENS = 96  # of context, beside prompt and answer: a prompt is a few tokens longer or shorter than it was to be
BUSY_PERCENT = 15
RECORDED_DEPTH = 512  # the row nearest to it is what the next prediction learns from


class Benchmark(Struct, frozen=True):
    """What will be measured: each of ``fits``, which differ in their threads alone, at each of ``depths``. ``records``:
    the runs are kept, and teach how fast the next will be."""

    fits: tuple[Fit, ...]
    depths: tuple[int, ...]
    repetitions: int
    records: bool


class Result(Struct, frozen=True):
    """``runs`` has one for each fit, ``rows`` one for each fit and depth."""

    rows: tuple[BenchRow, ...]
    runs: tuple[Run, ...]


def prepare(
    listener: Listener,
    name: str | None,
    *,
    depths: Sequence[int] | None,
    threads: Sequence[int | None],
    repetitions: int,
    repack: bool | None = None,
    flash_attention: bool | None = None,
) -> Benchmark:
    """For the model ``name``, or the one that would answer a prompt. Raises UsageError for more threads than there
    are, NothingFitsError, and NotFoundError for what is not on this machine."""
    before = shelf(listener)
    before.require(name)  # kernels are measured for what is there
    situation = look(listener, before=before)
    most = situation.machine.cpu.logical_cores
    if (count := max(each or 0 for each in threads)) > most > 0:
        raise UsageError(
            f"--threads is {count}, this processor runs {most} at once: more wait for each other at every layer",
            hint=f"llmctl bench --threads {situation.machine.cpu.usable_threads}",
        )
    name = name or situation.settings.model
    wanted = want(situation.settings, explicit=name is not None)
    wanted = replace(wanted, repack=repack, flash_attention=flash_attention)
    fits = [_planned(situation, name, wanted, depths, threads[0])]
    settings = fits[0].configuration  # the same for all numbers of threads
    wanted = replace(wanted, repack=settings.repack, flash_attention=settings.flash_attention)
    fits += [_planned(situation, name or _name(fits[0]), wanted, depths, count) for count in threads[1:]]
    return Benchmark(
        tuple(fits), tuple(depths or affordable(fits, repetitions)), repetitions, situation.settings.history
    )


def measure(listener: Listener, benchmark: Benchmark) -> Result:
    """Runs it, and keeps what it took. Raises EngineError."""
    _say_before(listener, benchmark)
    rows: list[BenchRow] = []
    runs: list[Run] = []
    for fit in benchmark.fits:
        made, run = _measure(listener, fit, benchmark.depths, benchmark.repetitions)
        rows += made
        runs.append(run)
    try:
        for run in runs if benchmark.records else ():
            history.record(run)
    except ResourceError as error:
        listener.warn(f"what was measured is not recorded: {error.message}")
    disturbed, of = sum(row.disturbed for row in rows), benchmark.repetitions * len(rows)
    if disturbed:
        listener.warn(f"other programs took the cores in {disturbed} of {of} measurements: those are too low")
    return Result(tuple(rows), tuple(runs))


def _planned(
    situation: Situation, name: str | None, wanted: Want, depths: Sequence[int] | None, threads: int | None
) -> Fit:
    """With so many threads and room for the deepest. Raises NothingFitsError, NotFoundError."""
    wanted = replace(wanted, threads=threads or wanted.threads)
    fit = choose.choose(situation, name, wanted)
    needed = max(depths or (0,)) + ANSWER_TOKENS + SLACK_TOKENS
    if not isinstance(fit, NoFit) and needed > fit.context:
        fit = choose.choose(situation, name or _name(fit), replace(wanted, context=needed))
    if isinstance(fit, NoFit):
        raise NothingFitsError(fit.reason, hint="llmctl plan --all")
    if not choose.is_here(fit):
        raise NotFoundError(f"{_name(fit)} is not on this machine", hint=command("llmctl", "pull", names=[_name(fit)]))
    return fit


def _name(fit: Fit) -> str:
    return choose.name_of(fit.candidate)


def affordable(fits: Sequence[Fit], repetitions: int) -> list[int]:
    """Of DEPTHS those that fit into the context, and together into BUDGET_S."""
    room = min(fit.context for fit in fits) - ANSWER_TOKENS - SLACK_TOKENS
    fitting = [depth for depth in DEPTHS if depth <= room] or [0]
    while len(fitting) > LEAST_DEPTHS and _seconds(fits, fitting, repetitions) > BUDGET_S:
        fitting.pop()
    return fitting


def _seconds(fits: Sequence[Fit], depths: Sequence[int], repetitions: int) -> float:
    """What it will take, by the prediction: loading, two answers before, and all that is timed."""
    total = 0.0
    for fit in fits:
        answers = sum(repetitions * fit.speed_model.task_s(depth, ANSWER_TOKENS) for depth in depths)
        total += (fit.speed.load_s or 1.0) + 2 * fit.speed_model.task_s(SAMPLE_WORDS, ANSWER_TOKENS) + answers
    return total


def _say_before(listener: Listener, benchmark: Benchmark) -> None:
    """How long it will take, and that a neighbour on one core slows an engine that waits for all of its threads."""
    import psutil

    busy = psutil.cpu_percent(interval=0.3)
    if busy > BUSY_PERCENT:
        listener.warn(f"other programs use {busy:.0f} % of the processor: what is measured now will be too low")
    takes = units.seconds(_seconds(benchmark.fits, benchmark.depths, benchmark.repetitions))
    depths = ", ".join(f"{depth:,}" for depth in benchmark.depths)
    listener.note(f"Depths {depths}, {benchmark.repetitions} times each: about {takes}.")


def _measure(listener: Listener, fit: Fit, depths: Sequence[int], repetitions: int) -> tuple[list[BenchRow], Run]:
    with start(fit) as engine:
        listener.note(f"  loaded in {units.seconds(engine.load_s)}, {_threads(fit)}")
        rows = list(rounds(fit, engine, depths, repetitions, lambda text: listener.note(f"  {text}")))
    kept = min(rows, key=lambda row: abs(row.prompt_tokens - RECORDED_DEPTH))
    prefill = None if kept.prefill is None else kept.prefill.median_tok_s
    return rows, history.run_of(fit, engine, kept.last, kept.decode.median_tok_s, prefill)


def _threads(fit: Fit) -> str:
    if fit.threads == fit.prefill_threads:
        return units.threads(fit.threads)
    return f"{fit.threads} threads to decode, {fit.prefill_threads} to read prompts"
