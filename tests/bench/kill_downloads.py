"""Downloads that are killed, again and again: is the file right in the end, and how much was fetched twice?

    python -m tests.bench.kill_downloads [--kills 60] [--mib 1024] [--mb-per-s 10] [--folder /tmp] [--seed 1]

`Store.add` runs in a process of its own, gets SIGKILL after a random time, and is started again; when there were enough
kills (or the file was whole before), the last one may finish. The server on loopback (tests/fakes/hub.py) gives every
connection the same rate and counts what it has handed to the kernel, so bytes that were on their way count as fetched,
too. Ends with an error if the sha256 is wrong, or a kill cost more than 16 MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from llmctl.transfer.partial_file import noted_bytes
from tests.bench.fetch_against_others import FILE, LLMCTL, REPO, environment, write_model
from tests.fakes.hub import FakeHub

AGAIN_BYTES = 16 << 20
LONGEST_RUN_S = 1.6  # of them about half a second until the first byte comes


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=60)
    options.add_argument("--mib", type=int, default=1024)
    options.add_argument("--mb-per-s", type=float, default=10)
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        file = write_model(folder, given.mib)
        with FakeHub({REPO: {FILE: file}}) as hub:
            hub.switch(bytes_per_s=round(given.mb_per_s * 1e6))
            size, sha256 = hub.size(REPO, FILE), hub.sha256(REPO, FILE)
            blob = folder / "hub" / f"models--{REPO.replace('/', '--')}" / "blobs" / sha256
            costs: list[int] = []
            kept_bytes = sent_bytes = 0
            while len(costs) < given.kills:
                running = start(hub.url, folder)
                time.sleep(chance.uniform(0.3, LONGEST_RUN_S))
                if running.poll() is not None:
                    break
                running.send_signal(signal.SIGKILL)
                running.wait()
                hub.settle()
                now_bytes = noted_bytes(blob)
                costs.append(hub.sent_bytes - sent_bytes - (now_bytes - kept_bytes))
                kept_bytes, sent_bytes = now_bytes, hub.sent_bytes
                print(
                    f"kill {len(costs)}: {kept_bytes:,} of {size:,} kept, {costs[-1]:,} to be fetched again", flush=True
                )
            hub.switch()
            last = start(hub.url, folder)
            last.wait()
            hub.settle()
        right = hashlib.sha256(blob.read_bytes()).hexdigest() == sha256
    print(f"{len(costs)} kills, at most {hub.most_busy} connections; sha256 {'right' if right else 'WRONG'}")
    print(f"fetched again for each: median {median(costs):,.0f}, at most {max(costs):,} bytes")
    print(f"in all: {hub.sent_bytes:,} bytes sent for {size:,}")
    return 0 if right and max(costs) <= AGAIN_BYTES and len(costs) == given.kills else 1


def start(url: str, folder: Path) -> subprocess.Popen[bytes]:
    variables = {"HF_ENDPOINT": url, "HF_HOME": str(folder)}
    argv = [sys.executable, "-c", LLMCTL, REPO, FILE]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment() | variables)


if __name__ == "__main__":
    sys.exit(main())
