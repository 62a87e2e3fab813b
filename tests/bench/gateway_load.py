"""Several clients of the gateway and of its engine, alternating: what the gateway costs, and whether it stays the same.

    python tests/bench/gateway_load.py [FILE.gguf] [--clients 1 4 16 64] [--seconds 20] [--rounds 2] [--sequences 4]

Without a file, a tiny scripted model answers: then what is measured is all the gateway's, and far more answers a second
come than any real model gives. Each client asks again as soon as it has its answer, with another of PROMPTS, at
temperature 0; one that is refused because too many wait waits a bit. An answer whose text isn't the one that the engine
gave alone counts as another one (with a real model, rows that are computed together are rounded otherwise, so there are
other ones without the gateway, too). Prints tokens a second, the median and the 95th percentile of the time to the
first token, answers that were refused, failed or other ones, and of the gateway's process the CPU time for each answer
and its memory after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil

from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import write_scripted

PROMPTS = tuple(f"Tell me something about the number {number}." for number in range(16))
NAME = "under-test"
CONTEXT = 1024
WORDS = 64
AGAIN_S = 0.5


@dataclass
class Round:
    """What the clients of one round have got. Seconds."""

    tokens: int = 0
    answers: int = 0
    refused: int = 0
    failed: int = 0
    others: int = 0
    first_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.took_s if self.took_s else 0.0


@dataclass
class Load:
    """``expected``: the engine's answer to each prompt, alone."""

    address: Address
    max_tokens: int
    expected: dict[str, str] = field(default_factory=dict)

    async def ask(self, session: aiohttp.ClientSession, url: str, prompt: str, made: Round) -> None:
        body = {"model": NAME, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        body |= {"max_tokens": self.max_tokens, "messages": [{"role": "user", "content": prompt}]}
        begun, text, first_s = time.perf_counter(), "", None
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line.removeprefix(b"data: "))
                said = "".join(choice["delta"].get("content", "") for choice in chunk.get("choices", ()))
                first_s = time.perf_counter() - begun if said and first_s is None else first_s
                text += said
                made.tokens += (chunk.get("usage") or {}).get("completion_tokens", 0)
        if answer.status == 429:
            made.refused += 1
            await asyncio.sleep(AGAIN_S)
            return
        made.answers += 1
        if answer.status != 200 or first_s is None:
            made.failed += 1
            return
        made.first_s.append(first_s)
        made.others += text != self.expected.setdefault(prompt, text)

    async def client(self, url: str, number: int, until_s: float, made: Round) -> None:
        headers = {"Authorization": f"Bearer {self.address.token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while time.perf_counter() < until_s:
                with contextlib.suppress(aiohttp.ClientError):
                    await self.ask(session, url, PROMPTS[number % len(PROMPTS)], made)
                number += 1

    async def round(self, url: str, clients: int, seconds: float) -> Round:
        made, begun = Round(), time.perf_counter()
        await asyncio.gather(*(self.client(url, number, begun + seconds, made) for number in range(clients)))
        made.took_s = time.perf_counter() - begun
        return made


@contextlib.contextmanager
def gateway(address: Address) -> Iterator[tuple[str, psutil.Process]]:
    """In a process of its own, as llmctl serve has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, __file__, "--gateway", str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([address.url, address.token]))
        process.stdin.close()
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.kill()


def run_gateway(port: int) -> None:
    from llmctl.server.app import create_app
    from llmctl.server.gateway import Gateway

    url, token = json.load(sys.stdin)
    models = Models(Model(Address(url, NAME, token), NAME, context=CONTEXT))
    Gateway(create_app(models), socket.create_server(("127.0.0.1", port))).run()


def shown(name: str, made: Round) -> str:
    tail = quantiles(made.first_s, n=20)[-1] if len(made.first_s) > 1 else 0.0
    first = f"first token {median(made.first_s or [0]) * 1e3:.1f} ms (95 %: {tail * 1e3:.1f})"
    counts = f"{made.answers} answers, {made.refused} refused, {made.failed} failed, {made.others} others"
    return f"{name} {made.rate:.1f} tokens/s, {first}, {counts}"


async def compare(load: Load, url: str, process: psutil.Process, clients: Sequence[int], seconds: float) -> None:
    direct = load.address.url.removesuffix("/v1")
    for prompt in PROMPTS:  # alone, and warm
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {load.address.token}"}) as session:
            await load.ask(session, direct, prompt, Round())
    for count in clients:
        bare = await load.round(direct, count, seconds)
        used_s = sum(process.cpu_times()[:2])
        through = await load.round(url, count, seconds)
        each_ms = (sum(process.cpu_times()[:2]) - used_s) / max(1, through.answers) * 1e3
        print(f"{count:3} clients: {shown('engine', bare)}")
        print(f"{count:3} clients: {shown('gateway', through)}")
        added_ms = (median(through.first_s or [0]) - median(bare.first_s or [0])) * 1e3
        ratio = f"x{through.rate / bare.rate:.3f} of the engine's" if bare.rate else "no rate"
        memory = f"{process.memory_info().rss / 1e6:.1f} MB"
        cost = f"first token {added_ms:+.1f} ms, {each_ms:.1f} ms CPU an answer, {memory}"
        print(f"{count:3} clients: {ratio}, {cost}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path, nargs="?", metavar="FILE.gguf")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--sequences", type=int, default=4)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--tokens", type=int, default=WORDS)
    options.add_argument("--gateway", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.gateway is not None:
        run_gateway(given.gateway)
        return
    with tempfile.TemporaryDirectory() as folder:
        words = [f" w{number}" for number in range(WORDS)]
        file = given.file or write_scripted(Path(folder) / "scripted-F32.gguf", words)
        fit = fit_for(file, context=CONTEXT, threads=given.threads, sequences=given.sequences, name=NAME)
        with start(fit) as engine, gateway(engine.address) as (url, process):
            load = Load(engine.address, given.tokens)
            for _ in range(given.rounds):
                asyncio.run(compare(load, url, process, given.clients, given.seconds))


if __name__ == "__main__":
    main()
