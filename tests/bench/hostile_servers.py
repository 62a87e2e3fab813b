"""Every command that talks to a server, against servers that mean no good, all of them at once.

usage: python tests/bench/hostile_servers.py [--seconds 5] [--to-the-end]

For each command one process for every hostile server of ``tests/fakes/hostile.py``, HAND_IN_HAND at a time, and doctor
once with all of them as endpoints. After ``--seconds`` a process that still runs gets Ctrl-C; with ``--to-the-end`` it
is left to its own deadline. Printed: how it ended, the time that took, and the peak of its memory. Exits 1 if a process
has taken more than 150 MB, needed more than a second to end, or shown a traceback.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fakes.chat_server import ChatServer
from tests.fakes.hostile import HOSTILE

HAND_IN_HAND = 10
MOST_BYTES = 150_000_000
LONGEST_S = 1.0
COMMANDS = {
    "run": ["run", "--endpoint", "server", "hi"],
    "run --json": ["run", "--json", "--endpoint", "server", "hi"],
    "pull": ["pull", "org/name-GGUF:Q4_K_M"],
    "pull URL": ["pull", "--sha256", "0" * 64, "{url}/model.gguf"],
    "plan": ["plan", "org/name-GGUF"],
    "models refresh": ["models", "refresh"],
    "setup": ["setup", "--yes"],
    "doctor --network": ["doctor", "--network"],
}


@dataclass(frozen=True)
class Ended:
    code: int
    ran_s: float
    interrupted_s: float | None  # from Ctrl-C to the end
    peak_bytes: int
    last_line: str
    has_traceback: bool

    @property
    def is_right(self) -> bool:
        quick = self.interrupted_s is None or self.interrupted_s <= LONGEST_S
        return quick and self.peak_bytes <= MOST_BYTES and not self.has_traceback and self.code != 1


def measured(cache: Path) -> None:
    """Lets doctor measure all that any command would, so that none does it in the middle."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLMCTL_", "HF_"))}
    with tempfile.TemporaryDirectory() as home:
        environment |= {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home, "XDG_CACHE_HOME": str(cache)}
        command = [sys.executable, "-m", "llmctl", "doctor", "--measure"]
        subprocess.run(command, env=environment, check=True, capture_output=True)


def run(arguments: list[str], urls: list[str], seconds: float, cache: Path) -> Ended:
    """One process, in a home of its own with ``urls`` as endpoints and the first of them as the model hub."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as errors:
        config = Path(home) / "config" / "llmctl"
        config.mkdir(parents=True)
        shutil.copytree(cache, Path(home) / "cache")
        names = ["server", *(f"server{number}" for number in range(1, len(urls)))]
        tables = [f'[endpoints.{name}]\nurl = "{url}"\nmodel = "m"\n' for name, url in zip(names, urls, strict=True)]
        (config / "config.toml").write_text("\n".join(tables))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLMCTL_", "HF_"))}
        environment |= {"HOME": home, "LLMCTL_HUB_URL": urls[0], "LLMCTL_POLICY": "prefer-local"}
        environment |= {f"XDG_{kind}_HOME": f"{home}/{kind.lower()}" for kind in ("CONFIG", "DATA", "CACHE")}
        command = [sys.executable, "-m", "llmctl", *(argument.format(url=urls[0]) for argument in arguments)]
        begun_s = time.monotonic()
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        interrupted_s, peak_bytes = None, 0
        while child.poll() is None:
            peak_bytes = max(peak_bytes, own_peak_bytes(child.pid))
            if interrupted_s is None and time.monotonic() - begun_s > seconds:
                interrupted_s = time.monotonic()
                child.send_signal(signal.SIGINT)
            elif interrupted_s is not None and time.monotonic() - interrupted_s > 20:
                child.kill()
            time.sleep(0.01)
        ended_s = time.monotonic()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    return Ended(
        child.returncode,
        ended_s - begun_s,
        None if interrupted_s is None else ended_s - interrupted_s,
        peak_bytes,
        said.strip().splitlines()[-1][:70] if said.strip() else "",
        "Traceback" in said,
    )


def own_peak_bytes(pid: int) -> int:
    """The most memory that a process has had, without that of its children, which measure and compute."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def attack(label: str, arguments: list[str], servers: dict[str, ChatServer], seconds: float, cache: Path) -> bool:
    """Runs a command against every server, prints a line for each, and tells whether all ended right."""
    with ThreadPoolExecutor(HAND_IN_HAND) as pool:
        ended = list(pool.map(lambda name: run(arguments, [f"http://{servers[name].host}"], seconds, cache), servers))
    for name, one in zip(servers, ended, strict=True):
        row(label, name, one)
    return all(one.is_right for one in ended)


def row(label: str, name: str, one: Ended) -> None:
    how = f"exit {one.code}" if one.interrupted_s is None else f"Ctrl-C {one.interrupted_s:.2f} s"
    mark = " " if one.is_right else "!"
    size = f"{one.peak_bytes / 1e6:4.0f} MB"
    print(f"{mark} {label:17} {name:24} {how:14} {one.ran_s:6.1f} s {size}  {one.last_line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--to-the-end", action="store_true")
    parser.add_argument("commands", nargs="*", help="a selection of the commands")
    options = parser.parse_args()
    seconds = 3600.0 if options.to_the_end else options.seconds
    servers = {name: ChatServer(reply) for name, reply in HOSTILE.items()}
    right = True
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        cache = Path(folder)
        measured(cache)
        for server in servers.values():
            stack.enter_context(server)
        for label, arguments in COMMANDS.items():
            if not options.commands or label in options.commands:
                right &= attack(label, arguments, servers, seconds, cache)
        if not options.commands or "doctor" in options.commands:
            one = run(["doctor"], [f"http://{server.host}" for server in servers.values()], seconds, cache)
            row("doctor", "all of them", one)
            right &= one.is_right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
