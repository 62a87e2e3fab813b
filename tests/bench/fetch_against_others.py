"""How fast a model is fetched: llmctl beside curl and the hub's own library, the same file from the same server.

    python -m tests.bench.fetch_against_others [--rounds 5] [--mib 1024] [--capped-mib 512] [--folder /dev/shm]

The server is tests/fakes/hub.py in a process of its own, on loopback. First without any limit: curl, one connection,
is what the others are held against. Then with 20 MB/s for each connection and at most eight of them. Programs take
turns, each run in a fresh process with an empty cache, and what is timed is the call that fetches: asking the hub,
transfer, hash where there is one, rename; not the start of the interpreter. llmctl and the library ask the hub first,
curl asks it within the one request. The library runs over plain HTTP (HF_HUB_DISABLE_XET). Files lie in memory where
the folder does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.fakes.gguf_file import Fill, TensorSpec, write

REPO, FILE = "bench/model-GGUF", "model-Q4_0.gguf"
CAP_BYTES_PER_S, CONNECTIONS = 20_000_000, 8

SERVER = """
import sys, json
from pathlib import Path
from tests.fakes.hub import FakeHub
with FakeHub({sys.argv[1]: {sys.argv[2]: Path(sys.argv[3])}}) as hub:
    hub.sha256(sys.argv[1], sys.argv[2])
    hub.switch(**json.loads(sys.argv[4]))
    print(hub.url, flush=True)
    sys.stdin.read()
"""
LLMCTL = """
import resource, sys, time
from llmctl import settings
from llmctl.store import Store
from llmctl.types.model import Source, SourceKind
from llmctl.workspace.fetcher import Fetcher
import requests, filelock
begun = time.perf_counter()
path = Fetcher(Store(), settings.load()).add(Source(SourceKind.HUB, *sys.argv[1:3]), lambda done, total: None)
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
LIBRARY = """
import resource, sys, time
from huggingface_hub import hf_hub_download
begun = time.perf_counter()
hf_hub_download(*sys.argv[1:3])
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--mib", type=int, default=1024)
    options.add_argument("--capped-mib", type=int, default=512)
    options.add_argument("--folder", type=Path, default=Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"))
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        compare("one connection, no limit", folder, given.mib, given.rounds, {})
        capped = {"bytes_per_s": CAP_BYTES_PER_S, "connections": CONNECTIONS}
        title = f"{CONNECTIONS} connections, {CAP_BYTES_PER_S // 10**6} MB/s each"
        compare(title, folder, given.capped_mib, max(1, given.rounds // 3), capped)


def compare(title: str, folder: Path, mib: int, rounds: int, switches: dict[str, int]) -> None:
    """Prints the rates of every round, then the medians of llmctl's against the others' with their spread."""
    file = write_model(folder, mib)
    size = file.stat().st_size
    print(f"{title}: {size:,} bytes")
    rates: dict[str, list[float]] = {}
    with server(file, switches) as url:
        programs = {"curl": curl, "llmctl": llmctl, "huggingface_hub": library}
        once(llmctl, url, folder)  # the file is in the page cache from here on
        for turn in range(rounds):
            order = list(programs)[turn % 3 :] + list(programs)[: turn % 3]
            for name in order:
                took_s, most_bytes = once(programs[name], url, folder)
                rates.setdefault(name, []).append(size / took_s)
                memory = f", {most_bytes / 1e6:.0f} MB of memory" if most_bytes else ""
                print(f"  round {turn + 1}: {name:16} {size / took_s / 1e6:7.0f} MB/s{memory}", flush=True)
    for other in ("curl", "huggingface_hub"):
        ratios = [ours / theirs for ours, theirs in zip(rates["llmctl"], rates[other], strict=True)]
        print(f"  llmctl against {other}: x{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    file.unlink()


def write_model(folder: Path, mib: int) -> Path:
    """A sound GGUF file of so many MiB and a little more."""
    tensors = [TensorSpec("token_embd.weight", (1024, mib << 8), "F32")]
    return write(folder / FILE, {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)


@contextmanager
def server(file: Path, switches: dict[str, int]) -> Iterator[str]:
    """A hub with the file, in a process of its own. Yields its address."""
    argv = [sys.executable, "-c", SERVER, REPO, FILE, str(file), json.dumps(switches)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def once(program: Callable[[str, Path], tuple[float, int]], url: str, folder: Path) -> tuple[float, int]:
    """Seconds and the most memory in bytes (0: not known) of one run with an empty cache."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        return program(url, Path(cache))


def curl(url: str, cache: Path) -> tuple[float, int]:
    address = f"{url}/{REPO}/resolve/main/{FILE}"
    argv = ["curl", "-sfL", "-o", str(cache / FILE), "-w", "%{time_total} 0", address]
    return figures(argv, {})


def llmctl(url: str, cache: Path) -> tuple[float, int]:
    return figures([sys.executable, "-c", LLMCTL, REPO, FILE], {"HF_ENDPOINT": url, "HF_HOME": str(cache)})


def library(url: str, cache: Path) -> tuple[float, int]:
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    argv = [sys.executable, "-c", LIBRARY, REPO, FILE]
    return figures(argv, {"HF_ENDPOINT": url, "HF_HOME": str(cache), **quiet})


def figures(argv: list[str], variables: dict[str, str]) -> tuple[float, int]:
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env=environment() | variables)
    took_s, most_bytes = done.stdout.split()
    return float(took_s), int(most_bytes)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LLMCTL_"))}
    return kept | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}


if __name__ == "__main__":
    main()
