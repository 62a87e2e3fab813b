"""Predicted rates of several answers at once beside the installed engine's.

    python tests/bench/users_against_engine.py [FILE.gguf | NAME:QUANT ...]

Whole files, the given ones or ones with random weights in real models' shapes, are planned for USERS and measured in a
child, as the worker computes them: a token of each sequence in one step, after DEPTH tokens of each; the median of
STEPS steps, those during which other programs took a core left out where others are left. Prints the rates together
and the medians of the absolute errors, one answer's apart. Fails if those of several are above TARGET.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from llmctl import catalogue
from llmctl.engine.history import DISTURBED_PER_S
from llmctl.engine.measure.preemption import Preemption
from llmctl.struct import asdict
from llmctl.types.plan import Want
from tests.bench.children import asked
from tests.bench.speed_against_engine import fitted, written

FILES = ("ernie4_5-0.3b:Q4_0", "qwen3-0.6b:Q4_K_M", "gemma3-1b:Q8_0", "llama-3.2-3b:Q4_K_M", "granitemoe-3b:Q4_K_M")
USERS = (1, 2, 4, 8)
DEPTH = 128
STEPS = 16
CONTEXT = 256
TARGET = 0.20


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measured(json.load(sys.stdin))))
        return 0
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*")
    names = options.parse_args().names or FILES
    offs: dict[int, list[float]] = {}
    print(f"{'':24}{'users':>6}{'measured':>10}{'told':>8}{'':>7} {'range':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file = Path(name) if Path(name).is_file() else written(name, Path(folder))
            for users in USERS:
                offs.setdefault(users, []).append(compared(name, file, users))
            if file.parent == Path(folder):
                file.unlink()
    several = [abs(off) for users, errors in offs.items() for off in errors if users > 1]
    for what, errors in (("one answer", [abs(off) for off in offs[1]]), ("several answers", several)):
        print(f"{what}: median {median(errors):.1%}")
    return int(median(several) > TARGET)


def compared(name: str, file: Path, users: int) -> float:
    """Prints a line, and gives how far the prediction is off."""
    fit = fitted(catalogue.from_file(file), Want(context=CONTEXT, explicit=True, min_tok_s=0, users=users))
    settings = {**asdict(fit.configuration), "threads": fit.threads, "prefill_threads": fit.prefill_threads}
    rate = float(asked(__file__, {"file": str(file), **settings}))
    depth = DEPTH + STEPS / 2
    told = fit.speed_model.decode_tok_s(depth) if users == 1 else fit.speed_model.together_tok_s(depth, users)
    speed = fit.speed
    low = speed.decode_low_tok_s / speed.decode_tok_s
    high = speed.decode_high_tok_s / speed.decode_tok_s
    if speed.together_tok_s and speed.together_low_tok_s and speed.together_high_tok_s:
        low, high = speed.together_low_tok_s / speed.together_tok_s, speed.together_high_tok_s / speed.together_tok_s
    inside = " " if low * told <= rate <= high * told else "*"
    off: float = told / rate - 1
    print(
        f"{Path(name).name:24}{users:6}{rate:10.1f}{told:8.1f}{off:+7.0%} {low * told:7.1f}-{high * told:.1f}{inside}",
        flush=True,
    )
    return off


def measured(question: Mapping[str, Any]) -> float:
    """In the child: tokens per second of all sequences together."""
    import llama_cpp

    from llmctl.engine.llama_cpp.context import Context, Row
    from llmctl.engine.llama_cpp.loading import load

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    model = load(question)
    context, sequences = Context(model, question), range(question["sequences"])
    words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)) - 300
    for sequence in sequences:
        context.decode([Row(300 + (7 * at + sequence) % words, at, sequence, at == DEPTH - 1) for at in range(DEPTH)])
    quiet_s, all_s = [], []
    for step in range(STEPS):
        rows = [Row(300 + (11 * step + sequence) % words, DEPTH + step, sequence, True) for sequence in sequences]
        preemption, begun = Preemption(), time.perf_counter()
        context.decode(rows)
        all_s.append(time.perf_counter() - begun)
        if (preemption.per_s() or 0.0) < DISTURBED_PER_S:
            quiet_s.append(all_s[-1])
    return len(sequences) / median(quiet_s or all_s)


if __name__ == "__main__":
    sys.exit(main())
