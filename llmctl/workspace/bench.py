"""Prompts of a wanted length, answered by the engine and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from msgspec import Struct

from llmctl.endpoint.local import ask
from llmctl.engine.history import DISTURBED_PER_S
from llmctl.errors import EngineError
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Finished
from llmctl.types.plan import Fit
from llmctl.types.request import Request, Sampling

ANSWER_TOKENS = 32
LEAST_TOKENS = 16  # a shorter answer says little of a rate
TRIES = 3  # for a model that ends its answer early
SAMPLE_WORDS = 200
WORDS = ("river", "stone", "cloud", "garden", "window", "bridge", "summer", "letter", "copper", "forest", "winter")
TASK = "Now count to one thousand."


class Rates(Struct, frozen=True):
    """Tokens per second over the repetitions: the median, the lowest and the highest."""

    median_tok_s: float
    low_tok_s: float
    high_tok_s: float


class Foretold(Struct, frozen=True):
    """What was predicted of a row, in tokens per second; the range is that of decoding."""

    prefill_tok_s: float | None
    decode_tok_s: float
    decode_low_tok_s: float
    decode_high_tok_s: float


class BenchRow(Struct, frozen=True):
    """One depth with one number of threads. ``depth`` is what was asked for, ``prompt_tokens`` what it came to;
    ``prefill`` is that of the whole prompt, None where it is too short to tell. ``disturbed`` of the repetitions had
    other programs take the cores. ``last`` is the engine's word on the median repetition."""

    depth: int
    threads: int
    prefill_threads: int
    prompt_tokens: int
    prefill: Rates | None
    decode: Rates
    predicted: Foretold
    disturbed: int
    last: Finished


class _Timed(Struct, frozen=True):
    prefill_tok_s: float | None
    decode_tok_s: float
    finished: Finished


def rounds(
    fit: Fit, engine: LoadedEngine, depths: Sequence[int], repetitions: int, tell: Callable[[str], None]
) -> Iterator[BenchRow]:
    """A row for each depth, but for those where the model always ended its answers too early. Raises EngineError if
    that was everywhere."""
    few, many = (_prompt_tokens(engine, words) for words in (0, SAMPLE_WORDS))
    if few is None or many is None:
        raise EngineError(f"{fit.candidate.model.id}: the engine does not tell how long a prompt is")
    per_word = max((many - few) / SAMPLE_WORDS, 0.5)
    number = rows = 0
    for depth in depths:
        made = []
        for turn in range(1, repetitions + 1):
            number += 1  # each prompt begins in its own way: the engine keeps what two have in common
            timed = _asked(engine, _prompt(number, round(max(0, depth - few) / per_word)))
            made += [timed] if timed is not None else []
            tell(f"depth {depth:,}, {turn} of {repetitions}{'' if timed else ': it ended its answers too early'}")
        if made:
            rows += 1
            yield _row(fit, depth, made)
    if not rows:
        raise EngineError(f"{engine.address.model} ends its answers too early to measure")


def _row(fit: Fit, depth: int, made: Sequence[_Timed]) -> BenchRow:
    usage = made[0].finished.usage
    prompt, answer = usage.prompt_tokens or 0, usage.completion_tokens or 0
    computed = made[0].finished.prefill_tokens or 0
    prefills = [timed.prefill_tok_s for timed in made if timed.prefill_tok_s is not None]
    pace, speed = fit.speed_model, fit.speed
    decode = pace.decode_tok_s(prompt + answer / 2)
    return BenchRow(
        depth=depth,
        threads=fit.threads,
        prefill_threads=fit.prefill_threads,
        prompt_tokens=prompt,
        prefill=summary(prefills) if prefills and depth else None,
        decode=summary([timed.decode_tok_s for timed in made]),
        predicted=Foretold(
            pace.prefill_tok_s(computed, prompt - computed) if computed and depth else None,
            decode,
            decode * speed.decode_low_tok_s / speed.decode_tok_s,
            decode * speed.decode_high_tok_s / speed.decode_tok_s,
        ),
        disturbed=sum((timed.finished.preempted_per_s or 0.0) >= DISTURBED_PER_S for timed in made),
        last=sorted(made, key=lambda timed: timed.decode_tok_s)[len(made) // 2].finished,
    )


def _prompt(number: int, words: int) -> str:
    made = " ".join(WORDS[(number + at * at) % len(WORDS)] for at in range(words))
    return f"{number}. {made} {TASK}" if words else f"{number}. {TASK}"


def _prompt_tokens(engine: LoadedEngine, words: int) -> int | None:
    """How many tokens the prompt with so many words has, however short its answer is."""
    sampling = Sampling(max_tokens=1, temperature=0.0)
    for piece in ask(engine, Request.of(_prompt(0, words), sampling)):
        if isinstance(piece, Finished):
            return piece.usage.prompt_tokens
    return None


def _asked(engine: LoadedEngine, prompt: str) -> _Timed | None:
    """One answer that is long enough, its tokens by the clock on the wall, as whoever reads it sees them come; None if
    the model ended them all too early. Without a seed: an engine reads a prompt with one in smaller parts."""
    sampling = Sampling(max_tokens=ANSWER_TOKENS, temperature=0.8, extra={"speculate": False})
    for _ in range(TRIES):
        first = last = 0.0
        finished = None
        for piece in ask(engine, Request.of(prompt, sampling)):
            if isinstance(piece, Finished):
                finished = piece
                continue
            last = time.perf_counter()
            first = first or last
        answer = 0 if finished is None else finished.usage.completion_tokens or 0
        if finished is not None and answer >= LEAST_TOKENS and last > first:
            prefill = None
            if finished.prefill_tokens and finished.prefill_s:
                prefill = finished.prefill_tokens / finished.prefill_s
            return _Timed(prefill, (answer - 1) / (last - first), finished)
        prompt = "Again: " + prompt  # else the engine would have all of it in its cache
    return None


def summary(rates: Sequence[float]) -> Rates:
    return Rates(median(rates), min(rates), max(rates))
