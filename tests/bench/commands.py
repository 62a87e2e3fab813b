"""What the commands compute that must feel instant, in real processes: median, lowest and highest of ten. It is the
time of the processor, user and system, children included: of a busy machine's clock nothing can be learned.

python tests/bench/commands.py [--times 10] [--python OTHER/bin/python]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from statistics import median

COMMANDS = {
    "--help": 0.2,
    "run --help": 0.2,
    "completion bash": 0.2,
    "completion zsh": 0.2,
    "models list": 0.2,
    "models list --all": 0.35,
    "plan": 0.35,
    "plan --json --all": 0.35,
    "doctor": 0.35,
    "doctor --json": 0.35,
}
TAB = {
    "_LLMCTL_COMPLETE": "complete_fish",
    "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    "_TYPER_COMPLETE_ARGS": "llmctl run -m qwen",
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=10)
    options.add_argument("--python", default=sys.executable, help="that of another installation, to compare with")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as empty:  # a store without a model
        environment = {**os.environ, "HF_HUB_CACHE": empty, "XDG_DATA_HOME": empty}
        cases: list[tuple[str, list[str], dict[str, str], float]]
        cases = [(name, name.split(), {}, limit_s) for name, limit_s in COMMANDS.items()]
        cases.append(("run -m qwen<Tab>", [], TAB, 0.2))
        slow = [
            name
            for name, arguments, more, limit_s in cases
            if not timed(name, [given.python, "-m", "llmctl", *arguments], environment | more, given.times, limit_s)
        ]
    return 1 if slow else 0


def timed(name: str, argv: list[str], environment: dict[str, str], times: int, limit_s: float) -> bool:
    took = []
    for _ in range(times + 1):
        begun_s = computed_s()
        subprocess.run(argv, capture_output=True, check=True, env=environment)
        took.append(computed_s() - begun_s)
    took = took[1:]  # the first fills the disk cache, and may measure the machine
    print(f"{name:20} {median(took):.3f} s ({min(took):.3f} to {max(took):.3f}), at most {limit_s} s")
    return median(took) <= limit_s


def computed_s() -> float:
    """What the children of this process have computed so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
