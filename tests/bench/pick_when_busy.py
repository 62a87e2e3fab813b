"""Whether the pick depends on the moment: plans and runs with nothing remembered, while programs keep no core, one core
and all cores busy, and the plan after each of them, when the machine is quiet again.

python tests/bench/pick_when_busy.py [--times 3] [--file MODEL.gguf]

``--file`` is a small model that is run as well. Ends with 1 if a pick, its threads or those of a run differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BUSY = "while True: pass"
LIMIT_S = 300


class Seen(NamedTuple):
    """What one command told: model and quant, threads for decoding and for prefill, what its speed rests on."""

    pick: str
    threads: str
    decode_tok_s: float
    basis: str


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=3)
    options.add_argument("--file", type=Path)
    asked = options.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{'busy':<12} {'command':<12} {'pick':<34} {'threads':<8} {'tok/s':>6} {'basis':<11} {'s':>5}  bandwidth")
    plans: set[tuple[str, str]] = set()
    runs: set[tuple[str, str]] = set()
    for busy in dict.fromkeys((0, 1, cores)):
        for _ in range(asked.times):
            with tempfile.TemporaryDirectory() as home:
                with hogs(busy):
                    plans.add(shown(f"{busy} cores", "plan", planned(home), home))
                    if asked.file is not None:
                        runs.add(shown(f"{busy} cores", "run", ran(home, asked.file), home))
                plans.add(shown("then none", "plan", planned(home), home))
    print(f"plans differ: {len(plans) > 1}; runs differ: {len(runs) > 1}")
    return int(len(plans) > 1 or len(runs) > 1)


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """So many programs that compute all the time."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(1.0)  # for their start and the first slices to be over
        yield
    finally:
        for hog in started:
            hog.kill()
            hog.wait()


def planned(home: str) -> tuple[Seen, float]:
    data, took_s = told(home, "plan", "--json")
    choice = data["choice"]
    threads = f"{choice['threads']}, {choice['prefill_threads']}"
    speed = choice["speed"]
    return Seen(f"{choice['model']} {choice['quant']}", threads, speed["decode_tok_s"], speed["basis"]), took_s


def ran(home: str, file: Path) -> tuple[Seen, float]:
    data, took_s = told(home, "run", "--json", "-n", "64", "-m", str(file.resolve()), "Say hello.")
    lines = (Path(home) / "data" / "llmctl" / "history.jsonl").read_text().splitlines()
    run, predicted = json.loads(lines[-1]), data["predicted"]
    name = f"{data['route']['model']} {data['route']['quant']}"
    threads = f"{run['threads']}, {run['prefill_threads']}"
    return Seen(name, threads, predicted["decode_tok_s"], predicted["basis"]), took_s


def told(home: str, *arguments: str) -> tuple[Any, float]:
    """The data of a command with caches and history in ``home``, and how many seconds it took."""
    environment = dict(os.environ) | {"XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data"}
    begun = time.monotonic()
    argv = [sys.executable, "-m", "llmctl", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False)
    took_s = time.monotonic() - begun
    document = json.loads(done.stdout or "{}")
    if document.get("data") is None:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return document["data"], took_s


def shown(busy: str, command: str, seen: tuple[Seen, float], home: str) -> tuple[str, str]:
    one, took_s = seen
    row = f"{busy:<12} {command:<12} {one.pick:<34} {one.threads:<8} {one.decode_tok_s:>6.1f} {one.basis:<11}"
    print(f"{row} {took_s:>5.1f}  {bandwidth(home)}", flush=True)
    return one.pick, one.threads


def bandwidth(home: str) -> str:
    """As doctor would tell it of what was measured so far."""
    from llmctl import units
    from llmctl.engine.devices.machine import this_machine
    from llmctl.engine.measure import kernels
    from llmctl.host import Host

    os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
    machine, _ = this_machine(Host(), store=Path(home))
    uncertain = kernels.uncertain_figures(machine.kernels) if machine.kernels is not None else "all"
    rate = units.rate(machine.memory.bandwidth_bytes_per_s) if machine.memory.bandwidth_bytes_per_s else "unknown"
    return f"{rate} {(machine.memory.bandwidth_basis or '').split(' (')[0]}, {uncertain} figures uncertain"


if __name__ == "__main__":
    sys.exit(main())
