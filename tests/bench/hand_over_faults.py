"""Every row of the table of faults with real processes: which side answered, exit code, stderr, receipts, time.

usage: python -m tests.bench.hand_over_faults [--stays] [ROW ...]

For each row of ``tests/fakes/faults.py``: the server alone, then with a second one behind it. With ``--stays`` the same
under ``local-only`` and with ``--private``, with a model here that can't be loaded, under strace: what is connected to
beyond loopback is counted from outside the process. The last line of that is a connection which must be seen. Exits 1
where a row is not as the table has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.connections import trace
from tests.fakes.faults import FAULTS, Certificates, Fault, served

ROOT = Path(__file__).parents[2]
LAB = stream(event("Lab"), event(finish="stop"), DONE)
SECRET = "the secret of the house"
AWAY = '[endpoints.away]\nurl = "https://192.0.2.1/v1"\nmodel = "m"\nconnect_s = 0.2\n'


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    took_s: float
    receipts: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()

    @property
    def last_line(self) -> str:
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1][:78] if lines else ""


def run(home: Path, config: str, *arguments: str, strace: bool = False) -> Ran:
    """``llmctl run`` in a home of its own."""
    (home / "config/llmctl").mkdir(parents=True, exist_ok=True)
    (home / "config/llmctl/config.toml").write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMCTL_", "HF_", "XDG_"))}
    kept |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": str(ROOT)}
    prefix, seen = trace(home) if strace else ([], list)
    begun_s = time.perf_counter()
    command = [*prefix, sys.executable, "-m", "llmctl", "run", "--no-stdin", *arguments, SECRET]
    done = subprocess.run(command, env=kept, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    took_s = time.perf_counter() - begun_s
    elsewhere = tuple(peer for peer in seen() if not peer.startswith(("127.", "::1:")))
    return Ran(done.returncode, done.stdout.strip(), done.stderr, took_s, outcomes(home), elsewhere)


def outcomes(home: Path) -> tuple[str, ...]:
    file = home / ".local/share/llmctl/receipts.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return tuple(f"{receipt['endpoint']} {receipt['outcome']}" for receipt in map(json.loads, lines))


def row(fault: Fault, certificates: Certificates) -> bool:
    """Prints a line for the server alone and one for two of them, and tells whether both are as they should be."""
    with ChatServer(LAB) as lab, served(fault, certificates, lab.url) as office:
        behind = f'[endpoints.lab]\nurl = "{lab.url}"\nmodel = "m"\n'
        with tempfile.TemporaryDirectory() as home:
            alone = run(Path(home), f'policy = "remote-only"\n{office.table}')
        connected = lab.connections
        with tempfile.TemporaryDirectory() as home:
            both = run(Path(home), f'policy = "remote-only"\n{office.table}{behind}')
    is_last = fault.is_answered or fault.is_partial
    right_alone = (alone.code, alone.out, connected) == (fault.code, fault.text, 0) and fault.says in alone.err
    right_both = (both.code, both.out) == ((fault.code, fault.text) if is_last else (0, "Lab"))
    line("office" if fault.is_answered else "-", fault.name, alone, right_alone)
    line(("office" if fault.is_answered else "-") if is_last else "lab", "  and another behind it", both, right_both)
    return right_alone and right_both


def line(side: str, name: str, ran: Ran, is_right: bool) -> None:
    mark, kept = " " if is_right else "!", ", ".join(ran.receipts) or "no receipt"
    print(f"{mark} {name:30} {side:6} exit {ran.code:2} {ran.took_s:5.2f} s  {kept:32} {ran.last_line}", flush=True)


def stays(fault: Fault, certificates: Certificates) -> bool:
    """Whether nothing is connected under local-only and with --private."""
    right = True
    for policy, arguments in (("local-only", ()), ("prefer-local", ("--private",)), ("remote-only", ("--private",))):
        with served(fault, certificates, "http://192.0.2.1/") as office, tempfile.TemporaryDirectory() as home:
            ran = run(Path(home), f'policy = "{policy}"\nhub_url = "http://127.0.0.1:9"\n{office.table}', *arguments,
                      strace=True)  # fmt: skip
            connections = 0 if office.server is None else office.server.connections
        is_right = not connections and not ran.elsewhere and not ran.receipts
        right &= is_right
        says = f"{connections} to the server, {len(ran.elsewhere)} elsewhere"
        print(f"{' ' if is_right else '!'} {fault.name:30} {policy:12} {' '.join(arguments):9} {says}", flush=True)
    return right


def is_seen() -> bool:
    """Whether a connection to another machine is seen, by what has counted none so far."""
    with tempfile.TemporaryDirectory() as home:
        ran = run(Path(home), f'policy = "remote-only"\n{AWAY}', strace=True)
    print(f"{' ' if ran.elsewhere else '!'} a connection to another machine: {', '.join(ran.elsewhere) or 'not seen'}")
    return bool(ran.elsewhere)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stays", action="store_true")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.rows or fault.name in options.rows]
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates.made(Path(folder))
        right = [(stays if options.stays else row)(fault, certificates) for fault in chosen]
        if options.stays:
            right.append(is_seen())
    print(f"{sum(right)} of {len(right)} as they should be")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
