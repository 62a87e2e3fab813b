"""How long the commands take that must feel instant, in real processes: median, lowest and highest of ten.

python tests/bench/commands.py [--times 10]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "--help": 0.2,
    "run --help": 0.2,
    "doctor": 0.5,
    "doctor --json": 0.5,
    "plan": 0.5,
    "plan --json --all": 0.5,
    "models list": 0.5,
    "models list --all": 0.5,
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=10)
    times = options.parse_args().times
    slow = [name for name, limit_s in COMMANDS.items() if not timed(name, name.split(), {}, times, limit_s)]
    tab = {"COMP_WORDS": "llmctl\nrun\n-m\nqwen", "COMP_CWORD": "3", "_LLMCTL_COMPLETE": "complete_bash"}
    slow += [] if timed("run -m qwen<Tab>", [], tab, times, 0.2) else ["completion"]
    return 1 if slow else 0


def timed(name: str, arguments: list[str], environment: dict[str, str], times: int, limit_s: float) -> bool:
    argv = [sys.executable, "-m", "llmctl", *arguments]
    took = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=True, env={**os.environ, **environment})
        took.append(time.perf_counter() - begun)
    took = took[1:]  # the first fills the disk cache, and may measure the machine
    print(f"{name:20} {median(took):.3f} s ({min(took):.3f} to {max(took):.3f}), at most {limit_s} s")
    return median(took) <= limit_s


if __name__ == "__main__":
    sys.exit(main())
