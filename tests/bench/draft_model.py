"""A draft model that is always right and one that is always wrong, on and off in one engine, alternating.

    python -m tests.bench.draft_model [--layers 24] [--feed-forward 8192] [--rounds 3] [--threads 2]

The large model is as slow as its layers make it (24 of 8,192 hold 600 MB) and always says the same 416 tokens; the
draft model has one layer and says the same, or the token behind it. For each: tokens a second, how many passes of the
large model a token took, how many tokens were drafted, and whether the text is that of plain greedy decoding. Ends with
an error where the text differs, where answers by the right draft model take more than half the passes (median), or
where the wrong one still drafts when a quarter of an answer is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from msgspec.structs import replace

from llmctl.engine.llama_cpp.start import start
from llmctl.gguf.header import read_file
from llmctl.types.endpoint import Address
from llmctl.types.plan import Configuration, Draft
from tests.engine.test_drafted_answers import COPIED, answered
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

CONTEXT = 1024
MOST_PASSES = 0.5  # for each token, with a draft model that is always right
MOST_WRONG = 1 / 4  # tokens that are drafted in vain, of those of the answer


def write_wrong(file: Path) -> Path:
    """A draft model with the same tokens that is always one token ahead."""
    write_scripted(file, COPIED)
    read = read_file(file)
    (output,) = (tensor for tensor in read.tensors if tensor.name == "output.weight")
    rows = np.memmap(file, np.float32, "r+", read.data_offset + output.offset, tuple(reversed(output.shape)))
    rows[:] = np.roll(rows, 1, axis=0)
    rows.flush()
    return file


def tok_s(answer: dict[str, Any]) -> float:
    timings = answer["timings"]
    return float(1000 * timings["predicted_n"] / timings["predicted_ms"])


def compared(address: Address, name: str, rounds: int) -> list[str]:
    """Prints a line for each round; what is wrong with the answers."""
    problems: list[str] = []
    gains, passes = [], []
    for number in range(rounds):
        order = (False, True) if number % 2 else (True, False)
        made = {drafts: answered(address, f"round {number}", speculate=drafts) for drafts in order}
        plain, drafted, timings = made[False], made[True], made[True]["timings"]
        tokens = drafted["usage"]["completion_tokens"]
        passes.append((tokens - timings["draft_n_accepted"]) / tokens)
        gains.append(tok_s(drafted) / tok_s(plain))
        print(
            f"{name}: {tok_s(plain):.1f} tok/s plain, {tok_s(drafted):.1f} drafted (x{gains[-1]:.2f}); "
            f"{passes[-1]:.2f} passes a token, {timings['draft_n_accepted']} of {timings['draft_n']} drafted came",
            flush=True,
        )
        if drafted["choices"] != plain["choices"]:
            problems.append(f"{name}: the text is not that of plain decoding")
        if name == "wrong" and timings["draft_n"] > MOST_WRONG * tokens:
            problems.append(f"{name}: {timings['draft_n']} tokens were drafted in vain")
    if name == "right" and median(passes) > MOST_PASSES:
        problems.append(f"{name}: {median(passes):.2f} passes for each token")
    print(f"{name}: median x{median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})")
    return problems


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--layers", type=int, default=24)
    options.add_argument("--feed-forward", type=int, default=8192)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    problems = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = write_scripted(folder / "large.gguf", COPIED, layers=given.layers, feed_forward=given.feed_forward)
        fit = fit_for(large, context=CONTEXT, threads=given.threads)
        right, wrong = write_scripted(folder / "right.gguf", COPIED), write_wrong(folder / "wrong.gguf")
        for kind, file in (("right", right), ("wrong", wrong)):
            draft = Draft(fit_for(file).candidate, Configuration(CONTEXT), 7, 1.5, is_asked_for=True)
            with start(replace(fit, draft=draft)) as engine:
                answered(engine.address, "warm up", speculate=False, max_tokens=16)
                problems += compared(engine.address, kind, given.rounds)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
