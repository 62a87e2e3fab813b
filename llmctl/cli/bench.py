"""``llmctl bench``: what the engine really does here, beside what was predicted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import EngineError, NothingFitsError

if TYPE_CHECKING:
    from llmctl.engine.history import Run
    from llmctl.types.plan import Fit

PROMPT_WORDS = 400  # some 500 tokens: one full batch, which is what prefill rates are quoted for
ANSWER_TOKENS = 128
LEAST_TOKENS = 32  # a shorter answer says little of a rate
BUSY_PERCENT = 15
WORDS = ("river", "stone", "cloud", "garden", "window", "bridge", "summer", "letter", "copper", "forest", "winter")


@dataclass(frozen=True)
class Rates:
    """Tokens per second over the repetitions: the median, the lowest and the highest."""

    median_tok_s: float
    low_tok_s: float
    high_tok_s: float


def bench(
    model: Annotated[
        str | None, typer.Argument(help="NAME[:QUANT] or FILE.gguf.", autocompletion=complete.models)
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, max=100, help="How often.")] = 3,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure prefill and decode of a model on this machine, beside the prediction.

    \b
    Examples:
      llmctl bench
      llmctl bench smollm2-135m-instruct -r 5 --json

    Runs a model that is on this machine (without a name: the one that `llmctl run` would use), with a prompt of made-up
    words. Nothing is fetched and nothing leaves; what it took of memory and time is kept for `llmctl doctor`.

    Exit codes: 0, 3 nothing fits, 4 not on this machine, 8 the engine.
    """
    from llmctl.cli import choose, situation
    from llmctl.errors import NotFoundError
    from llmctl.types.plan import NoFit

    out = Output("bench", as_json=json)
    found = situation.look(out)
    name = model or found.settings.model
    fit = choose.choose(found, name, situation.want(found.settings, threads=threads, explicit=name is not None))
    if isinstance(fit, NoFit):
        raise NothingFitsError(fit.reason, hint="llmctl plan --all")
    if not choose.is_here(fit):
        name = choose.name_of(fit.candidate)
        raise NotFoundError(f"{name} is not on this machine", hint=f"llmctl pull {name}")
    _warn_if_busy(out)
    prefill, decode, made = _measure(out, fit, repetitions)
    if found.settings.history:
        from llmctl.engine import history

        history.record(made)
    _show(out, fit, prefill, decode, made, repetitions)


def _warn_if_busy(out: Output) -> None:
    """A neighbour on one core slows an engine that waits for all of its threads many times over."""
    import psutil

    busy = psutil.cpu_percent(interval=0.3)
    if busy > BUSY_PERCENT:
        out.warn(f"other programs use {busy:.0f} % of the processor: what is measured now will be too low")


def _measure(out: Output, fit: Fit, repetitions: int) -> tuple[Rates, Rates, Run]:
    from llmctl.endpoint.local import ask
    from llmctl.engine.history import run_of
    from llmctl.engine.llama_cpp_python import start
    from llmctl.types.answer import Finished, Message, Sampling

    prefills: list[float] = []
    decodes: list[float] = []
    with start(fit) as engine:
        # One run more than counted: the first touches the weights' pages and is thrown away.
        for turn in range(repetitions + 1):
            words = " ".join(WORDS[(turn + n * n) % len(WORDS)] for n in range(PROMPT_WORDS))
            messages = [Message("user", f"{turn}. Note these words: {words}. Now count to one thousand.")]
            sampling = Sampling(max_tokens=ANSWER_TOKENS, temperature=0.8, seed=turn)
            last = next(one for one in ask(engine, messages, sampling) if isinstance(one, Finished))
            prompt, answer = last.prefill_tokens, last.usage.completion_tokens
            if turn and prompt and last.prefill_s:
                prefills.append(prompt / last.prefill_s)
            if turn and answer and answer >= LEAST_TOKENS and last.decode_s:
                decodes.append((answer - 1) / last.decode_s)
            out.note(f"  {'warm-up' if not turn else f'run {turn} of {repetitions}'}: {prompt} + {answer} tokens")
    if not prefills or not decodes:
        raise EngineError(f"{fit.candidate.model.id} ended its answers too early to measure")
    prefill, decode = _summary(prefills), _summary(decodes)
    made = run_of(fit, engine, last, decode.median_tok_s, prefill.median_tok_s)
    return prefill, decode, made


def _summary(rates: list[float]) -> Rates:
    from statistics import median

    return Rates(median(rates), min(rates), max(rates))


def _show(out: Output, fit: Fit, prefill: Rates, decode: Rates, made: Run, repetitions: int) -> None:
    speed, must_fit_bytes = fit.speed, fit.memory.must_fit_bytes
    out.text(f"{fit.candidate.model.name} {fit.candidate.artifact.quant}, {fit.threads} threads, {repetitions} runs")
    out.text(f"{'':9}{'measured':>10} {'(lowest to highest)':>22} {'predicted':>11}")
    for name, rates, predicted in (
        ("prefill", prefill, units.tok_s(speed.prefill_tok_s)),
        ("decode", decode, f"{units.tok_s(speed.decode_tok_s)}"),
    ):
        spread = f"({units.tok_s(rates.low_tok_s)} to {units.tok_s(rates.high_tok_s)})"
        out.text(f"{name:9}{units.tok_s(rates.median_tok_s):>10} {spread:>22} {predicted:>11}  tok/s")
    told = [size for size in (made.measured.anonymous_bytes, made.measured.device_bytes) if size is not None]
    taken = units.size(sum(told) if told else None)
    out.text(f"{'memory':9}{taken:>10} {'':22} {units.size(must_fit_bytes):>11}  must fit")
    low, high = units.tok_s(speed.decode_low_tok_s), units.tok_s(speed.decode_high_tok_s)
    out.note(f"The prediction for decoding was {low} to {high} tok/s ({speed.basis}).")
    out.data(
        {
            "model": fit.candidate.model.id,
            "quant": fit.candidate.artifact.quant,
            "threads": fit.threads,
            "repetitions": repetitions,
            "measured": {
                "prefill": prefill,
                "decode": decode,
                "memory": {
                    "anonymous_bytes": made.measured.anonymous_bytes,
                    "device_bytes": made.measured.device_bytes,
                },
            },
            "predicted": {**asdict(speed), "must_fit_bytes": must_fit_bytes},
        }
    )
