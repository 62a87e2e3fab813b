"""Encrypted scores of random vectors against those in clear: whether each is the same, time and size beside plaintext.

usage: python -m tests.bench.encrypted_scores [--vectors 10000] [--dimensions 384]

Exits with 1 where one score differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from llmctl.encrypted_scoring.asker import asked, opened
from llmctl.encrypted_scoring.parameters import LARGEST
from llmctl.encrypted_scoring.quantized import Quantized, quantized, scores
from llmctl.encrypted_scoring.scorer import scored


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=384)
    given = parser.parse_args()
    source = random.Random(4)
    row = [source.uniform(-1, 1) for _ in range(given.dimensions)]
    rows = (tuple(source.randint(-LARGEST, LARGEST) for _ in row) for _ in range(given.vectors))
    kept = Quantized(tuple(rows), 1.0)
    times = [time.perf_counter()]
    question, key = asked(row)
    times.append(time.perf_counter())
    answer = scored(question, kept)
    times.append(time.perf_counter())
    result = opened(answer, key)
    times.append(time.perf_counter())
    clear = scores(quantized([row]).rows[0], kept.rows)
    times.append(time.perf_counter())
    names = ("encrypted in", "scored in", "decrypted in", "in clear in")
    for name, begun_s, ended_s in zip(names, times[:-1], times[1:], strict=True):
        print(f"{name} {ended_s - begun_s:.3f} s")
    plain_bytes = given.dimensions + 4 * given.vectors
    print(f"{question.size_bytes:,} bytes there, {answer.size_bytes:,} back (in clear {plain_bytes:,} in all)")
    wrong = sum(one != other for one, other in zip(result.exact, clear, strict=True))
    print(f"{wrong:,} of {given.vectors:,} scores differ; {result.noise_budget_bits} bits of noise budget left")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
