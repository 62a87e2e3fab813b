"""Mutated headers, read and planned with: how many, the slowest, and the most memory that one took.

    python tests/bench/fuzz_headers.py [--headers 20000] [--seed 1]

Each is the header of a small model with one to four mutations of ``tests/gguf/test_header_fuzz.py``: a byte, a number
that steers the reader, something cut out, put in or cut off. It ends in a header or in an IntegrityError; anything else
ends this script.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import time
from collections import Counter
from io import BytesIO

from llmctl.errors import IntegrityError, UnsupportedFileError
from llmctl.gguf.header import read_header
from tests.gguf.test_header_fuzz import HOT, RICH, STEERING, make_sense

MOST_S, MOST_BYTES = 1.0, 200 << 20
KINDS = ("byte", "u32", "u64", "delete", "insert", "cut")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--headers", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    chance, ends, slowest = random.Random(given.seed), Counter[str](), 0.0
    make_sense(read_header(BytesIO(RICH), size_bytes=None))  # what is loaded once is nobody's fault
    before = peak_bytes()
    for _ in range(given.headers):
        raw = mutated(chance)
        begun = time.perf_counter()
        ends[read(raw, len(raw) if chance.random() < 0.5 else None)] += 1
        slowest = max(slowest, time.perf_counter() - begun)
    more = peak_bytes() - before
    print(f"{given.headers:,} mutated headers: " + ", ".join(f"{count:,} {end}" for end, count in ends.most_common()))
    print(f"slowest {slowest:.3f} s (at most {MOST_S:.0f}), memory {more / (1 << 20):.1f} MiB more (at most 200)")
    return 1 if slowest > MOST_S or more > MOST_BYTES else 0


def read(raw: bytes, size_bytes: int | None) -> str:
    try:
        found = read_header(BytesIO(raw), size_bytes=size_bytes)
    except (IntegrityError, UnsupportedFileError):
        return "refused"
    make_sense(found)
    return "read"


def mutated(chance: random.Random) -> bytes:
    raw = bytearray(RICH)
    for _ in range(chance.randint(1, 4)):
        at = (chance.choice(HOT) if chance.random() < 0.5 else chance.randrange(len(RICH))) % max(len(raw), 1)
        match chance.choice(KINDS):
            case "byte" if raw:
                raw[at] = chance.randrange(256)
            case "u32":
                raw[at : at + 4] = struct.pack("<I", chance.choice(STEERING) & 0xFFFFFFFF)
            case "u64":
                raw[at : at + 8] = struct.pack("<Q", chance.choice(STEERING))
            case "delete":
                del raw[at : at + chance.randint(1, 16)]
            case "insert":
                raw[at:at] = chance.randbytes(chance.randint(1, 16))
            case _:
                del raw[max(at, 1) :]
    return bytes(raw)


def peak_bytes() -> int:
    """The most that this process ever had in memory; in KiB on Linux, in bytes on macOS (getrusage)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
