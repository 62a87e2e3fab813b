"""``llmctl bench``: what the engine really does here, beside what was predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.struct import asdict

if TYPE_CHECKING:
    from llmctl.types.plan import Fit
    from llmctl.workspace.bench import BenchRow
    from llmctl.workspace.benchmark import Run

FORMATS = (".svg",)


def bench(
    model: Annotated[
        str | None, typer.Argument(help="NAME[:QUANT] or FILE.gguf.", autocompletion=complete.models)
    ] = None,
    depths: Annotated[
        str | None, typer.Option("--depths", "-d", help="Tokens before the answer, like 0,512,2048.")
    ] = None,
    threads: Annotated[str | None, typer.Option("--threads", "-t", help="Numbers of threads, like 1,2.")] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, max=100, help="How often.")] = 3,
    repack: Annotated[
        bool | None,
        typer.Option("--repack/--no-repack", help="With or without the weights' second copy; else what is faster."),
    ] = None,
    flash_attention: Annotated[
        bool | None,
        typer.Option("--flash-attention/--no-flash-attention", help="With or without it; else what is faster."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the chart to this file: .svg.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure prefill and decode of a model on this machine, beside the prediction.

    \b
    Examples:
      llmctl bench
      llmctl bench smollm2-135m-instruct -r 5 --json
      llmctl bench qwen3.5-4b --depths 0,1024,4096 --threads 4,8 --plot speed.svg

    Runs a model that is on this machine (without a name: the one that `llmctl run` would use) with prompts of made-up
    words, each as long as the depth: prefill is the rate at which the whole prompt is read, decode that of the 32
    tokens after it. Without --depths those are measured that take some two minutes in all. Nothing is fetched and
    nothing leaves; what it took of memory and time is kept for `llmctl doctor` and corrects the next prediction.

    Exit codes: 0, 2 usage, 3 nothing fits, 4 not on this machine, 8 the engine.
    """
    from llmctl.workspace import benchmark

    out = Output("bench", as_json=json)
    asked = None if depths is None else _numbers(depths, "--depths", least=0)
    counts: Sequence[int | None] = [None] if threads is None else _numbers(threads, "--threads", least=1)
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot is {plot}, it must end in {' or '.join(FORMATS)}: what a chart can be written as")
    prepared = benchmark.prepare(
        out,
        model,
        depths=asked,
        threads=counts,
        repetitions=repetitions,
        repack=repack,
        flash_attention=flash_attention,
    )
    result = benchmark.measure(out, prepared)
    fit, rows, run = prepared.fits[0], result.rows, result.runs[0]
    _show(out, fit, rows, run, repetitions)
    if plot is not None:
        _write(plot, fit, rows)
        out.note(f"The chart is in {plot}.")
    out.data({**_document(fit, rows, run, repetitions), "plot": plot})


def _numbers(text: str, option: str, *, least: int) -> list[int]:
    """Whole numbers between commas, each once, in order. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) < 8 and int(part) >= least for part in parts):
        raise UsageError(f"{option} is {text!r}, it must be whole numbers from {least} on, with commas between them")
    return sorted({int(part) for part in parts})


def _show(out: Output, fit: Fit, rows: Sequence[BenchRow], run: Run, repetitions: int) -> None:
    from llmctl.cli.bench.chart import bars

    candidate = fit.candidate
    settings = _settings(fit)
    out.text(f"{candidate.model.name} {candidate.artifact.quant}{settings}, medians of {repetitions}:")
    out.text("")
    for line in _table(rows):
        out.text(line)
    out.text("")
    for line in bars(rows):
        out.text(line)
    sizes = [size for size in (run.measured.anonymous_bytes, run.measured.device_bytes) if size is not None]
    taken, planned = units.size(sum(sizes) if sizes else None), units.size(fit.memory.must_fit_bytes)
    out.text(
        f"memory {taken} of {planned} planned · loaded in {units.seconds(run.load_s)} · "
        f"predictions are {fit.speed.basis}"
    )


def _settings(fit: Fit) -> str:
    settings = fit.configuration
    parts = ["as it lies in the file"] if not settings.repack else []
    parts += ["flash attention"] if settings.flash_attention else []
    return f" ({', '.join(parts)})" if parts else ""


def _table(rows: Sequence[BenchRow]) -> Iterator[str]:
    cells = [("threads", " depth", "prefill", "(range)    ", " told", " decode", "(range)    ", "  told", "(range)")]
    for row in rows:
        prefill, decode, predicted = row.prefill, row.decode, row.predicted
        read = ("–", "", "–")
        if prefill is not None:
            spread = _spread(prefill.low_tok_s, prefill.high_tok_s)
            read = (units.tok_s(prefill.median_tok_s), spread, units.tok_s(predicted.prefill_tok_s))
        cells.append(
            (
                str(row.threads) if row.threads == row.prefill_threads else f"{row.threads}/{row.prefill_threads}",
                f"{row.depth:,}",
                *read,
                units.tok_s(decode.median_tok_s),
                _spread(decode.low_tok_s, decode.high_tok_s),
                units.tok_s(predicted.decode_tok_s),
                _spread(predicted.decode_low_tok_s, predicted.decode_high_tok_s),
            )
        )
    yield from table(cells, ">>><>><><", gap=1)
    yield f"{'':15}tokens per second; told is what was predicted"


def _spread(low_tok_s: float, high_tok_s: float) -> str:
    return f"({units.tok_s(low_tok_s)}–{units.tok_s(high_tok_s)})"


def _document(fit: Fit, rows: Sequence[BenchRow], run: Run, repetitions: int) -> dict[str, Any]:
    from llmctl.workspace.bench import ANSWER_TOKENS
    from llmctl.workspace.document import settings_document

    return {
        "model": fit.candidate.model.id,
        "quant": fit.candidate.artifact.quant,
        "context": fit.context,
        "kv_type": fit.kv_type,
        "gpu_layers": fit.gpu_layers,
        "settings": settings_document(fit.configuration),
        "repetitions": repetitions,
        "answer_tokens": ANSWER_TOKENS,
        "rows": [
            {
                "threads": row.threads,
                "prefill_threads": row.prefill_threads,
                "depth": row.depth,
                "prompt_tokens": row.prompt_tokens,
                "measured": {"prefill": row.prefill, "decode": row.decode},
                "predicted": {**asdict(row.predicted), "basis": fit.speed.basis},
                "disturbed": row.disturbed,
            }
            for row in rows
        ],
        "memory": {
            "anonymous_bytes": run.measured.anonymous_bytes,
            "device_bytes": run.measured.device_bytes,
            "must_fit_bytes": fit.memory.must_fit_bytes,
        },
        "load_s": {"measured": run.load_s, "predicted": fit.speed.load_s},
    }


def _write(plot: Path, fit: Fit, rows: Sequence[BenchRow]) -> None:
    """Raises ResourceError where the file can't be written."""
    from llmctl.cli.bench.svg import picture
    from llmctl.errors import ResourceError

    title = f"{fit.candidate.model.name} {fit.candidate.artifact.quant}"
    try:
        plot.write_text(picture(title, rows), "utf-8")
    except OSError as error:
        raise ResourceError(f"the chart can't be written to {plot}: {error.strerror}") from error
