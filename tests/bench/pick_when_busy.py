"""Whether the pick depends on the moment: plans with nothing remembered on a quiet machine, while other programs keep
one core or all of them busy, within CPU quotas, while memory is held, during a compilation; and those after it, when
the machine is quiet again.

python tests/bench/pick_when_busy.py [--times 10] [SITUATION ...]

Prints, for each situation, the picks, their threads, speeds and ranges, the bandwidth, and how long a plan took. Ends
with 1 if a pick or its threads differ where the hardware is the same, or a plan after a busy one differs from a quiet
one; while memory is held, a pick may be one that fits beside it. Quotas need the right to make control groups; without
it they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # not longer than who has started it
HOLDS = "held = bytearray({size}); held[::4096] = b'x' * len(held[::4096]); import time; time.sleep(600)"
HELD_SHARE = 8  # of the machine's memory: an eighth, which no pick of a whole machine needs
FUNCTIONS = 4000  # in a file that takes a compiler some seconds
LIMIT_S = 120
PERIOD_US = 100_000
LESS = ("quota 1", "quota 1.5", "memory held")  # situations that are less of a machine
AFTER = 2  # plans after a situation


class Seen(NamedTuple):
    """What one plan told."""

    pick: str
    threads: str
    decode_tok_s: float
    low_tok_s: float
    high_tok_s: float
    basis: str
    present_tok_s: float | None
    took_s: float
    bandwidth: str


Situation = Callable[[], contextlib.AbstractContextManager[Sequence[str]]]
"""Makes the machine so, and gives what a command is to be started with."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=10)
    options.add_argument("names", nargs="*", metavar="SITUATION", help=", ".join(SITUATIONS))
    asked = options.parse_args()
    heads = f"{'situation':<15}{'pick':<38}{'threads':<9}{'tok/s':<14}{'range':<12}"
    print(f"{heads}{'basis':<22}{'now':>5}{'s':>6}  bandwidth")
    same: dict[str, set[tuple[str, str]]] = {}
    for name in asked.names or SITUATIONS:
        try:
            busy, quiet = seen_in(SITUATIONS[name], asked.times)
        except OSError as error:
            print(f"{name:<15}left out: {error}")
            continue
        for label, plans in ((name, busy), ("  then quiet", quiet)):
            show(label, plans)
            hardware = name if name in LESS and plans is busy else "whole machine"
            same.setdefault(hardware, set()).update((plan.pick, plan.threads) for plan in plans)
    differ = [hardware for hardware, picks in same.items() if len(picks) > 1]
    print(f"picks differ: {', '.join(differ) or 'nowhere'}")
    return int(bool(differ))


def seen_in(situation: Situation, times: int) -> tuple[list[Seen], list[Seen]]:
    """The plans in a situation, of which nothing was known before, and those after it. Raises OSError."""
    with tempfile.TemporaryDirectory() as home:
        with situation() as before:
            busy = [planned(home, before) for _ in range(times)]
        return busy, [planned(home, ()) for _ in range(AFTER)]


def planned(home: str, before: Sequence[str]) -> Seen:
    environment = dict(os.environ) | {"XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data"}
    argv = [*before, sys.executable, "-m", "llmctl"]

    def data(*arguments: str) -> Mapping[str, object]:
        done = subprocess.run(
            [*argv, *arguments], capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False
        )
        document = json.loads(done.stdout or "{}")
        if document.get("data") is None or "Traceback" in done.stderr:
            raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        told: Mapping[str, object] = document["data"]
        return told

    begun = time.monotonic()
    plan: dict[str, object] = {**data("plan", "--json")}
    took_s = time.monotonic() - begun
    choice, present = plan["choice"], plan["present"]
    if not isinstance(choice, dict):
        raise SystemExit(f"nothing fits: {plan['no_fit']}")
    speed = choice["speed"]
    return Seen(
        f"{choice['model']} {choice['quant']}",
        f"{choice['threads']}, {choice['prefill_threads']}",
        speed["decode_tok_s"],
        speed["decode_low_tok_s"],
        speed["decode_high_tok_s"],
        speed["basis"],
        present["decode_tok_s"] if isinstance(present, dict) else None,
        took_s,
        bandwidth(home),
    )


def bandwidth(home: str) -> str:
    """As doctor would tell it of what was measured so far."""
    from llmctl import units
    from llmctl.engine.devices.machine import this_machine
    from llmctl.host import Host

    os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
    memory = this_machine(Host(), store=Path(home))[0].memory
    rate = units.rate(memory.bandwidth_bytes_per_s) if memory.bandwidth_bytes_per_s else "unknown"
    return f"{rate} {(memory.bandwidth_basis or '').split(' (')[0]}"


def show(name: str, plans: Sequence[Seen]) -> None:
    rates = [plan.decode_tok_s for plan in plans]
    presents = [plan.present_tok_s for plan in plans if plan.present_tok_s is not None]
    row = f"{name:<15}{counted(plan.pick for plan in plans):<38}{counted(plan.threads for plan in plans):<9}"
    row += f"{min(rates):.1f}–{max(rates):.1f}".ljust(14)
    row += f"{min(plan.low_tok_s for plan in plans):.1f}–{max(plan.high_tok_s for plan in plans):.1f}".ljust(12)
    row += f"{counted(plan.basis for plan in plans):<22}{f'{median(presents):.1f}' if presents else '-':>5}"
    print(
        f"{row}{median(plan.took_s for plan in plans):>6.1f}  {counted(plan.bandwidth for plan in plans)}", flush=True
    )


def counted(values: Iterator[str]) -> str:
    """Each value once, with how often, the most frequent first; the number only where they differ."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({number})" for value, number in counts.most_common())


@contextlib.contextmanager
def quiet() -> Iterator[Sequence[str]]:
    yield ()


def busy(cores: int | None) -> Situation:
    """So many programs that compute all the time, one for each core without a number."""

    @contextlib.contextmanager
    def situation() -> Iterator[Sequence[str]]:
        with running([[sys.executable, "-c", BUSY]] * (cores or os.cpu_count() or 1)):
            yield ()

    return situation


@contextlib.contextmanager
def memory_held() -> Iterator[Sequence[str]]:
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // HELD_SHARE
    with running([[sys.executable, "-c", HOLDS.format(size=size)]]):
        yield ()


@contextlib.contextmanager
def compiling() -> Iterator[Sequence[str]]:
    """A compiler on every core, started again when it has done."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise OSError("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "many.c"
        body = "double f{0}(double x) {{ for (int i = 0; i < 9; i++) x = x * i + {0}; return x; }}\n"
        source.write_text("".join(body.format(number) for number in range(FUNCTIONS)))
        loop = f"while :; do {compiler} -O2 -c -o /dev/null {source}; done"
        with running([["sh", "-c", loop]] * (os.cpu_count() or 1)):
            yield ()


def quota(cpus: float) -> Situation:
    """A control group that may use so many CPUs' time."""

    @contextlib.contextmanager
    def situation() -> Iterator[Sequence[str]]:
        from llmctl.host import Host
        from llmctl.probe.cgroup import _groups

        version, above = next(iter(_groups(Host(), "cpu")))
        folder = Path(above) / f"llmctl-bench-{os.getpid()}"
        folder.mkdir()
        try:
            if version == 2:
                (folder / "cpu.max").write_text(f"{round(cpus * PERIOD_US)} {PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(round(cpus * PERIOD_US)))
            yield ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs"))
        finally:
            folder.rmdir()

    return situation


@contextlib.contextmanager
def running(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Programs in groups of their own, that end with all of their children."""
    started = [subprocess.Popen(argv, start_new_session=True) for argv in commands]
    try:
        time.sleep(1.0)  # for their start and the first slices to be over
        yield
    finally:
        for program in started:
            os.killpg(program.pid, 9)
            program.wait()


SITUATIONS: Mapping[str, Situation] = {
    "quiet": quiet,
    "one core busy": busy(1),
    "all cores busy": busy(None),
    "quota 1": quota(1),
    "quota 1.5": quota(1.5),
    "memory held": memory_held,
    "compiling": compiling,
}


if __name__ == "__main__":
    sys.exit(main())
