"""The time to the first token beside others that are being answered, and alone.

    python -m tests.bench.first_token FILE.gguf [--others 3] [--words 20 300] [--rounds 5] [--threads 2]

For each length a prompt is asked alone and beside others that write, in turn; each begins with other words, so that
nothing of it is held. Printed are the medians and their ratio. Ends with an error where it is above 2.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

from llmctl.endpoint.local import ask
from llmctl.engine.llama_cpp.start import start
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Reasoning, Text
from llmctl.types.request import Request, Sampling
from tests.bench.engine_memory import WORDS
from tests.fakes.fits import fit_for

MOST = 2.0  # times as long as alone
CONTEXT = 4096
BEGUN_WITHIN_S = 60.0


def first_token_s(engine: LoadedEngine, words: int, source: random.Random) -> float:
    text = " ".join(source.choice(WORDS) for _ in range(words))
    begun = time.perf_counter()
    with closing(ask(engine, Request.of(text, Sampling(max_tokens=2, temperature=0)))) as events:
        next(event for event in events if isinstance(event, Text | Reasoning))
        return time.perf_counter() - begun


@contextmanager
def others(engine: LoadedEngine, count: int) -> Iterator[None]:
    """So many answers are written meanwhile."""
    is_over, has_begun = threading.Event(), threading.Barrier(count + 1)

    def client(number: int) -> None:
        request = Request.of(f"Count from {number} to ten thousand.", Sampling(max_tokens=CONTEXT // 2, temperature=1))
        with closing(ask(engine, request)) as events:
            next(events)
            has_begun.wait(BEGUN_WITHIN_S)
            while not is_over.is_set() and next(events, None) is not None:
                pass

    threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(is_over.set)
        if threads:
            has_begun.wait(BEGUN_WITHIN_S)
        yield


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path)
    options.add_argument("--others", type=int, default=3)
    options.add_argument("--words", type=int, nargs="+", default=[20, 300])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    source, ratios = random.Random(1), []
    fit = fit_for(given.file, context=CONTEXT, threads=given.threads, sequences=given.others + 1)
    with start(fit) as engine:
        for words in given.words:
            first_token_s(engine, words, source)
            times: dict[int, list[float]] = {0: [], given.others: []}
            for _ in range(given.rounds):
                for count, taken in times.items():
                    with others(engine, count):
                        taken.append(first_token_s(engine, words, source))
            alone_s, beside_s = (median(taken) for taken in times.values())
            ratios.append(beside_s / alone_s)
            print(f"{words} words: {alone_s:.3f} s alone, {beside_s:.3f} s beside {given.others}: x{ratios[-1]:.2f}")
    return 1 if max(ratios) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
