"""What sealing costs over loopback: the first token's delay, and the speed of a whole answer, sealed and plain in turn.

usage: python -m tests.bench.sealed FILE.gguf [--rounds 20] [--tokens 128]

One gateway with a real engine answers the same prompt by the same client. Exits with 1 where the median first token
comes more than 5 ms later, or a whole answer has less than 0.97 of the plain one's speed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl.endpoint.client import chat, request_body
from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from llmctl.types.event import Text
from llmctl.types.request import Request, Sampling
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.sealed_gateway import sealed_gateway

MOST_LATER_S, LEAST_SPEED = 0.005, 0.97


class Measured(Struct, frozen=True):
    first_s: float
    words_per_s: float


def measured(address: Address, tokens: int) -> Measured:
    request = Request.of("Write a long story about the sea.", Sampling(max_tokens=tokens, temperature=0.0))
    begun_s = time.perf_counter()
    times = [time.perf_counter() for event in chat(address, request_body(address, request)) if isinstance(event, Text)]
    return Measured(times[0] - begun_s, (len(times) - 1) / (times[-1] - times[0]))


def rounds(address: Address, count: int, tokens: int) -> tuple[list[Measured], list[Measured]]:
    """Of sealed and plain answers, in turn, after one of each that isn't counted."""
    plain_address = replace(address, seal=None)
    sealed, plain = [], []
    for number in range(count + 1):
        first, second = (address, plain_address) if number % 2 else (plain_address, address)
        both = {id(where): measured(where, tokens) for where in (first, second)}
        if number:
            sealed.append(both[id(address)])
            plain.append(both[id(plain_address)])
    return sealed, plain


def told(sealed: Sequence[Measured], plain: Sequence[Measured]) -> int:
    """Prints the figures; the exit code."""
    later_s = statistics.median(mine.first_s - other.first_s for mine, other in zip(sealed, plain, strict=True))
    ratios = sorted(mine.words_per_s / other.words_per_s for mine, other in zip(sealed, plain, strict=True))
    speed = statistics.median(ratios)
    print(f"first token: {later_s * 1000:+.1f} ms (at most {MOST_LATER_S * 1000:.0f})")
    print(f"speed: {speed:.3f} of plain ({ratios[0]:.3f} to {ratios[-1]:.3f}; at least {LEAST_SPEED})")
    return int(later_s > MOST_LATER_S or speed < LEAST_SPEED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=128)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        with (
            start(fit_for(given.file, context=2048, threads=1, name="scripted")) as engine,
            sealed_gateway(Models(Model(engine.address, "scripted")), Path(folder)) as gateway,
        ):
            return told(*rounds(gateway.address(), given.rounds, given.tokens))


if __name__ == "__main__":
    sys.exit(main())
