"""Asks a gateway at random, by its own description, and counts what it answers: no 500, no crash of gateway or engine.

    python tests/bench/gateway_fuzz.py [--requests 20000] [--seed 0] [--schemathesis PROGRAM]

The requests are made by schemathesis, a program of its own (``pip install schemathesis``, best in an environment of its
own); half of them keep to the description and half don't. Behind the gateway is a real engine with a scripted model.
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.engine.llama_cpp.start import start
from llmctl.server.guards import Guard, guarded_gateway
from llmctl.server.host_check import allowed_hosts
from llmctl.types.access_token import AccessToken
from tests.fakes import guarded
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import WITH_TOOLS, write_scripted

TOKEN = "llmctl-of-the-bench"
COUNTED = re.compile(r'^llmctl_requests_total\{model="[^"]*",status="(\w+)"\} ([\d.e+]+)', re.MULTILINE)
ROUND = 100  # requests of each operation: a schemathesis that makes thousands becomes slower with each
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def kept(secret: str) -> AccessToken | None:
    return AccessToken("bench", "", "") if secret == TOKEN else None


def statuses(url: str) -> Counter[str]:
    """How many requests ended with each status so far."""
    page = requests.get(f"{url}/metrics", headers={"x-api-key": TOKEN}, timeout=30).text
    counted: Counter[str] = Counter()
    for status, number in COUNTED.findall(page):
        counted[status] += round(float(number))
    return counted


def operations(url: str) -> int:
    paths = requests.get(f"{url}/openapi.json", headers={"x-api-key": TOKEN}, timeout=30).json()["paths"]
    return sum(len(methods) for methods in paths.values())


def fuzz(program: str, url: str, phases: str, number: int, seed: int, folder: Path) -> int:
    """The exit code of schemathesis, which has asked each operation ``number`` times or so, and in the phase of
    coverage as often as its fields have edges. It keeps notes in ``folder``."""
    command = [program, "run", f"{url}/openapi.json", "--url", url, "--header", f"Authorization: Bearer {TOKEN}"]
    command += ["--phases", phases, "--checks", CHECKS, "--max-examples", str(number)]
    command += ["--seed", str(seed), "--continue-on-failure", "--workers", "1", "--suppress-health-check", "all"]
    command += ["--no-shrink", "--generation-database", "none"]
    return subprocess.run(command, check=False, cwd=folder).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="The first; each further round has the next.")
    parser.add_argument("--schemathesis", default="schemathesis")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = write_scripted(folder / "scripted-F32.gguf", ["The", " answer"], template=WITH_TOOLS)
        engine = stack.enter_context(start(fit_for(file, threads=1, sequences=2, name="scripted")))
        bound = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        given_up = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
        guard = Guard(allowed_hosts("127.0.0.1"), kept, True, given_up)
        models = Models(Model(engine.address, "scripted"))
        stack.enter_context(guarded.running(guarded_gateway(models, bound, guard)))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        begun, seed, codes = time.perf_counter(), given.seed, set[int]()
        while (done := statuses(url)).total() < given.requests:
            each = min(ROUND, max(10, (given.requests - done.total()) // operations(url)))
            phases = "examples,coverage,fuzzing" if seed == given.seed else "fuzzing"  # the edges are always the same
            codes.add(fuzz(given.schemathesis, url, phases, each, seed, folder))
            seed += 1
        answer = requests.post(
            f"{url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "hi"}]},
            headers={"x-api-key": TOKEN},
            timeout=30,
        )
    failed = {status: number for status, number in done.items() if status.startswith("5") or status == "none"}
    print(f"{done.total():,} requests in {time.perf_counter() - begun:.0f} s: {dict(sorted(done.items()))}")
    print(f"server errors: {failed or 'none'}; it still answers: {answer.status_code}; schemathesis: {sorted(codes)}")
    return 1 if failed or answer.status_code != 200 else 0


if __name__ == "__main__":
    sys.exit(main())
