"""Whole tasks with the settings that the planner chooses, and with the engine's own, on the same file.

    python tests/bench/settings_against_defaults.py [--pairs 5] [--engine NAME] [--results FILE] TASK FILE.gguf ...

TASK is ``long`` (a prompt of 3,000 tokens, an answer of 200) or ``chat`` (100 and 300). Both are loaded in one child
and answer in turn, the one that goes first changing from pair to pair; a pair during which other programs took the
cores is repeated. Time is that of the answer, without loading. The engine's own settings are those of ENGINES: both
repack weights and compute batches of 512; llama.cpp takes every physical core and, since its "auto" finds the processor
able to, flash attention; llama-cpp-python takes half of the logical cores for decoding and all for prefill, without
flash attention; ``plain`` is every physical core without. Prints the median of the ratios with the lowest and highest.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from llmctl import catalogue
from llmctl.engine.history import DISTURBED_PER_S
from llmctl.engine.measure.preemption import Preemption
from llmctl.struct import asdict
from llmctl.types.plan import Configuration, Fit, Want
from tests.bench.bare_llama import bare_llama
from tests.bench.children import asked
from tests.bench.speed_against_engine import fitted, machine

TASKS = {"long": (3000, 200), "chat": (100, 300)}
TARGETS = {"long": 0.70, "chat": 1.03}
CONTEXT = 4096
ENGINES = ("llama.cpp", "llama-cpp-python", "plain")
TRIES = 3
Settings = dict[str, Any]


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(answered(json.load(sys.stdin))))
        return 0
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("task", choices=TASKS)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    options.add_argument("--results", type=Path)
    given = options.parse_args()
    prompt, answer = TASKS[given.task]
    usual = _usual(given.engine)
    print(
        f"{given.task}: {prompt:,} tokens read, {answer} written; {given.engine}: {usual['threads']} threads for "
        f"decoding, {usual['prefill_threads']} for prefill, flash attention {usual['flash_attention']}"
    )
    worst = 0.0
    for file in given.files:
        ratios = _file(file, given.task, usual, given.pairs, given.results)
        worst = max(worst, median(ratios))
    return 1 if worst > TARGETS[given.task] else 0


def _file(file: Path, task: str, usual: Settings, pairs: int, results: Path | None) -> list[float]:
    prompt, answer = TASKS[task]
    want = Want(context=CONTEXT, prompt_tokens=prompt, answer_tokens=answer, explicit=True, min_tok_s=0)
    fit = fitted(catalogue.from_file(file), want)
    planned = _settings(fit)
    changed = ", ".join(f"{key} {planned[key]}" for key in planned if planned[key] != usual[key])
    if not changed:
        print(f"{file.name:28} the planner changes nothing")
        return [1.0]
    question = {"file": str(file), "settings": [planned, usual], "prompt": prompt, "answer": answer, "pairs": pairs}
    times = asked(__file__, question)
    if results is not None:
        with results.open("a") as out:
            out.write(json.dumps({"file": file.name, "task": task, "planned": planned, "times": times}) + "\n")
    ratios = [ours / theirs for ours, theirs in times]
    ours_s, theirs_s = (median(column) for column in zip(*times, strict=True))
    print(
        f"{file.name:28} x{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {ours_s:.1f} s instead of "
        f"{theirs_s:.1f} s, told {fit.speed_model.task_s(prompt, answer):.1f} s: {changed}",
        flush=True,
    )
    return ratios


def _usual(engine: str) -> Settings:
    cores, logical = machine().cpu.physical_cores, os.cpu_count() or 1
    binding = engine == "llama-cpp-python"
    return {
        **asdict(Configuration(CONTEXT, flash_attention=engine == "llama.cpp")),
        "threads": max(logical // 2, 1) if binding else cores,
        "prefill_threads": logical if binding else cores,
    }


def _settings(fit: Fit) -> Settings:
    return {**asdict(fit.configuration), "threads": fit.threads, "prefill_threads": fit.prefill_threads}


def answered(question: Mapping[str, Any]) -> list[tuple[float, float]]:
    """In the child: seconds of each pair, those of the first settings first."""
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    engines = [bare_llama(question["file"], settings) for settings in question["settings"]]
    for llama in engines:
        _task(llama, 64, 8, 0)
    pairs: list[tuple[float, float]] = []
    for number in range(question["pairs"]):
        for _ in range(TRIES):
            took = [0.0, 0.0]
            preemption = Preemption()
            for which in (0, 1) if number % 2 else (1, 0):
                took[which] = _task(engines[which], question["prompt"], question["answer"], number)
            if (preemption.per_s() or 0.0) < DISTURBED_PER_S:
                break
        pairs.append((took[0], took[1]))
        print(f"pair {number}: {took[0]:.2f} s, {took[1]:.2f} s", file=sys.stderr, flush=True)
    for llama in engines:
        llama.close()
    return pairs


def _task(llama: Any, prompt: int, answer: int, number: int) -> float:
    words = llama.n_vocab() - 300
    llama.reset()
    tokens: Sequence[int] = [300 + (7 * at + number) % words for at in range(prompt)]
    begun = time.perf_counter()
    llama.eval(tokens)
    for _ in range(answer):
        llama.eval([llama.sample(temp=0.7)])
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
