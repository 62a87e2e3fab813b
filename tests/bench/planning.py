"""How long planning takes: 1,000 plans of files whose headers are known, on machines of several kinds.

python tests/bench/planning.py [--plans 1000]
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import cycle, islice

from msgspec.structs import replace

from llmctl import catalogue
from llmctl.planner import plan
from llmctl.types.model import Source, SourceKind
from llmctl.types.plan import Want
from tests.fakes.real_tensors import header
from tests.planner.machines import EPYC, GIB, desktop, knowledge, mac, with_cards

LIMIT_S = 1.0  # for 1,000
FILES = (
    *(("llama-3.1-8b", "Q4_K_M"), ("qwen3-4b", "Q8_0"), ("gemma3-1b", "Q4_K_M"), ("qwen3moe-30b", "Q4_K_M")),
    *(("phi4-mini", "Q4_K_M"), ("lfm2-1.2b", "Q4_K_M"), ("gpt-oss-20b", "MXFP4"), ("deepseek-v2-lite", "Q4_0")),
)
MACHINES = {
    "processor": EPYC,
    "processor, nothing fits": replace(EPYC, memory=replace(EPYC.memory, available_bytes=GIB)),
    "card": desktop(23),
    "card, some layers": desktop(3),
    "two cards, some layers": with_cards(2.0, 2.5),
    "unified memory": mac(),
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--plans", type=int, default=1000)
    plans = options.parse_args().plans
    candidates = [
        catalogue.from_header(
            header(name, quant), Source(SourceKind.HUB, "example/x", f"{name}.gguf"), id=name, stated_at="here"
        )
        for name, quant in FILES
    ]
    slow = False
    for name, machine in MACHINES.items():
        begun = time.perf_counter()
        for candidate in islice(cycle(candidates), plans):
            plan(machine, [candidate], Want(explicit=True), knowledge())
        took = time.perf_counter() - begun
        slow |= took > LIMIT_S * plans / 1000
        print(f"{name:24} {plans:,} plans in {took:.3f} s, at most {LIMIT_S * plans / 1000:.1f} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
