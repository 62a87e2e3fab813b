"""Sends marked prompts through `llmctl serve`, good ones and such as are refused, and looks for the marks afterwards.

    python tests/bench/gateway_marks.py [--prompts 1000]

A gateway of the real command with a scripted model, in a home of its own, detached, so that it and its engine log to
files. Afterwards every file of that home and every page of the gateway's own is searched. Exits 1 if a mark is found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fakes.marked_requests import MARK_END, marked
from tests.fakes.scripted_model import WITH_TOOLS, write_scripted


def home_of(folder: Path) -> dict[str, str]:
    names = {"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache"}
    names |= {"XDG_STATE_HOME": "state", "XDG_RUNTIME_DIR": "runtime"}
    return {**os.environ, **{name: str(folder / place) for name, place in names.items()}}


def llmctl(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "llmctl", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def send(address: str, number: int) -> int:
    path, body, headers = marked(number)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(address.removesuffix("/v1") + path, data=data, headers=headers, timeout=60).status_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = home_of(folder)
        model = write_scripted(folder / "tiny.gguf", ["The", " answer"], template=WITH_TOOLS)
        address = llmctl(environment, "serve", str(model), "--port", "0", "--detach").strip()
        statuses = Counter(send(address, number) for number in range(given.prompts))
        pages = [requests.get(address.removesuffix("/v1") + path, timeout=30).text for path in ("/metrics", "/health")]
        pages += [llmctl(environment, "logs", "serve"), llmctl(environment, "ps"), llmctl(environment, "receipts")]
        llmctl(environment, "stop", "--all")
        files = [file for file in folder.rglob("*") if file.is_file()]
        found = [str(file.relative_to(folder)) for file in files if MARK_END.encode() in file.read_bytes()]
        found += [f"page {number}" for number, page in enumerate(pages) if MARK_END in page]
    print(f"{given.prompts:,} marked prompts, answered {dict(sorted(statuses.items()))}")
    print(f"{len(files)} files and {len(pages)} pages searched; marks in {', '.join(found) or 'none'}")
    return 1 if found or not statuses[200] else 0


if __name__ == "__main__":
    sys.exit(main())
