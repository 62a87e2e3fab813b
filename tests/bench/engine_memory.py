"""An engine under load for as long as is said: is its memory flat, and are all sequences free afterwards?

    python -m tests.bench.engine_memory FILE.gguf [--minutes 60] [--clients 4] [--pause 0] [--sequences 4] …

Clients ask, stop at a text, hang up in the middle, and send prompts of all lengths, also such that are too long. The
engine's own memory (anonymous pages, swap included) is read once a second; the first tenth of the time, in which
buffers and caches fill, is left out. Ends with an error if it ends more than 3 % above what it was then, or if the
engine does not answer as many clients at once as it has sequences.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from llmctl.endpoint.local import ask
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.warm.process import Process, started
from llmctl.errors import LlmctlError
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Finished
from llmctl.types.request import Request, Sampling
from tests.fakes.fits import fit_for

MOST_GROWTH = 0.03
WORDS = ("the", "fox", "asked", "why", "rivers", "run", "down", "to", "sea", "and", "what", "they", "carry", "there")
FREE_WITHIN_S = 60.0


class Load:
    """Clients that ask until they are told to stop. ``asked`` and ``left`` count what they did."""

    def __init__(self, engine: LoadedEngine, context: int, seed: int, pause_s: float) -> None:
        self._engine, self._context, self._pause_s = engine, context, pause_s
        self._seed = seed
        self.is_over = threading.Event()
        self.asked = self.left = self.refused = 0

    def client(self, number: int) -> None:
        source = random.Random(self._seed + number)
        while not self.is_over.is_set():
            try:
                self._ask(source)
            except LlmctlError:
                self.refused += 1
            self.is_over.wait(self._pause_s)

    def _ask(self, source: random.Random) -> None:
        length = min(self._context // 2, round(source.paretovariate(1) * 10))
        text = " ".join(source.choice(WORDS) for _ in range(length))
        stop = (source.choice(WORDS),) if source.random() < 0.3 else None
        sampling = Sampling(max_tokens=source.randint(1, 60), seed=source.getrandbits(31), stop=stop)
        leaves_after = source.randint(0, 5) if source.random() < 0.2 else None
        self.asked += 1
        with closing(ask(self._engine, Request.of(text, sampling))) as events:
            for at, _ in enumerate(events):
                if leaves_after is not None and at >= leaves_after:
                    self.left += 1
                    return


def answers_at_once(engine: LoadedEngine, sequences: int) -> bool:
    """Whether all sequences are free: so many requests are answered beside each other."""
    ended: list[bool] = []
    together = threading.Barrier(sequences)

    def client() -> None:
        with closing(ask(engine, Request.of("Count.", Sampling(max_tokens=200)))) as events:
            next(events)
            together.wait(FREE_WITHIN_S)  # everybody has a first word before anybody goes on
            ended.append(any(isinstance(event, Finished) for event in events))

    threads = [threading.Thread(target=client) for _ in range(sequences)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended == [True] * sequences


def measured(engine: LoadedEngine, load: Load, minutes: float) -> list[int]:
    process = Process(engine.pid, started(engine.pid) or "")
    sizes, end_s, said_s = [], time.monotonic() + 60 * minutes, 0.0
    while (now_s := time.monotonic()) < end_s:
        sizes.append(process.memory_bytes or 0)
        if now_s - said_s > 60:
            said_s = now_s
            print(f"{load.asked:,} asked, {load.left:,} left in the middle, {sizes[-1] / 1e6:.1f} MB", flush=True)
        time.sleep(1)
    return sizes


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--sequences", type=int, default=4)
    options.add_argument("--context", type=int, default=2048)
    options.add_argument("--pause", type=float, default=0.0, help="seconds that a client waits between two questions")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with start(fit_for(given.file, context=given.context, sequences=given.sequences)) as engine:
        load = Load(engine, given.context, given.seed, given.pause)
        threads = [threading.Thread(target=load.client, args=(number,), daemon=True) for number in range(given.clients)]
        for thread in threads:
            thread.start()
        sizes = measured(engine, load, given.minutes)
        load.is_over.set()
        for thread in threads:
            thread.join()
        is_free = answers_at_once(engine, given.sequences)
    tenth = max(1, len(sizes) // 10)
    begin, end = median(sizes[tenth : 2 * tenth]), median(sizes[-tenth:])
    growth = end / begin - 1
    print(f"{load.asked:,} asked, {load.left:,} left in the middle, {load.refused:,} refused")
    print(f"{'all' if is_free else 'NOT ALL'} sequences are free")
    print(f"memory {begin / 1e6:.1f} MB after a tenth of the time, {end / 1e6:.1f} MB in the last: {growth:+.1%}")
    return 0 if is_free and growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
