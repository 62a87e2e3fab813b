"""How long the commands take that must feel instant, in real processes: median, lowest and highest of ten.

python tests/bench/commands.py [--times 10]
"""

from __future__ import annotations

import argparse
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
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=10)
    times = options.parse_args().times
    slow = 0
    for command, limit_s in COMMANDS.items():
        argv = [sys.executable, "-m", "llmctl", *command.split()]
        subprocess.run(argv, capture_output=True, check=True)
        took = []
        for _ in range(times):
            begun = time.perf_counter()
            subprocess.run(argv, capture_output=True, check=True)
            took.append(time.perf_counter() - begun)
        slow += median(took) > limit_s
        print(f"{command:20} {median(took):.3f} s ({min(took):.3f} to {max(took):.3f}), at most {limit_s} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
