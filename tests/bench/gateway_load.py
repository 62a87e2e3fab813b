"""Clients of the gateway, of its engine without it, and of other servers with the same file: what the gateway costs.

    python tests/bench/gateway_load.py [FILE.gguf] [--clients 1 4 16 64] [--seconds 120] [--others-seconds 15]

Without a file a tiny scripted model answers: then what is measured is all the gateway's, and far more answers a second
come than any real model gives. Each client asks again as soon as it has its answer, for another of PROMPTS at
temperature 0, each with a length of its own; one that is refused because too many wait waits a bit. An answer is wrong
if its text isn't the one that the same server gave alone. (With a real model, rows that are computed together are
rounded otherwise, so there are other texts without the gateway, too, which the engine's row counts: then they aren't
held against the gateway. What 4 clients of a real model cost takes some 5 minutes: FILE.gguf --clients 4.)

Engine and gateway take turns of SLICE_S, for --seconds each at every number of clients; llama-server (``llmctl engine
install llama-server``), the server in the xllamacpp wheel and llama-cpp-python's own, as far as they are here, get
--others-seconds. With 1, 4, 16 and 64 clients for two minutes that takes some 19 minutes. Prints a table and whether
the targets are met: no wrong answer, 0.97 of the engine's rate with 4 clients, at most 15 ms more to the first
token, memory flat within 3 %. Exits with 1 where one isn't.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2]))

from llmctl.engine.llama_cpp.start import start
from llmctl.engine.llama_server import start as llama_server
from llmctl.types.endpoint import Address
from tests.bench.parallel_clients import own_server_url, server_of, xllamacpp_url
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import write_scripted

PROMPTS = tuple(f"Tell me something about the number {number}." for number in range(16))
NAME = "under-test"
ENGINE, GATEWAY = "engine", "gateway"
CONTEXT = 1024
WORDS = 64
AGAIN_S = 0.5
SLICE_S = 10.0
WARM_S = 2.0
FLOOR, ADDED_MS, FLAT = 0.97, 15.0, 0.03
COUNTED = 4  # clients, for the rate


@dataclass
class Answers:
    """What clients of one server have got. ``memory`` is the gateway's after each turn, in bytes; ``cpu_s`` its
    processor's time."""

    tokens: int = 0
    answers: int = 0
    refused: int = 0
    failed: int = 0
    wrong: int = 0
    first_s: list[float] = field(default_factory=list)
    took_s: float = 0.0
    cpu_s: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.tokens / self.took_s if self.took_s else 0.0

    @property
    def first_ms(self) -> float:
        return median(self.first_s or [0.0]) * 1e3

    @property
    def tail_ms(self) -> float:
        return quantiles(self.first_s, n=20)[-1] * 1e3 if len(self.first_s) > 1 else 0.0


@dataclass
class Server:
    """``url`` ends in /v1; ``expected``: its answer to each prompt, alone. ``reconnects``: each request has a
    connection of its own, as llama.cpp's servers end them without saying so."""

    name: str
    url: str
    token: str | None
    max_tokens: int
    expected: dict[str, str] = field(default_factory=dict)
    reconnects: bool = False

    async def ask(self, session: aiohttp.ClientSession, number: int, made: Answers) -> None:
        number %= len(PROMPTS)
        prompt, limit = PROMPTS[number], max(1, self.max_tokens - number)  # an answer to another one is too long
        body = {"model": NAME, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        body |= {"max_tokens": limit, "messages": [{"role": "user", "content": prompt}]}
        begun, text, first_s, tokens = time.perf_counter(), "", None, 0
        async with session.post(f"{self.url}/chat/completions", json=body) as answer:
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line.removeprefix(b"data: "))
                said = "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))
                first_s = time.perf_counter() - begun if said and first_s is None else first_s
                text, tokens = text + said, tokens + bool(said)
                tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        if answer.status == 429:
            made.refused += 1
            await asyncio.sleep(AGAIN_S)
            return
        made.answers += 1
        if answer.status != 200 or first_s is None:
            made.failed += 1
            return
        made.tokens += tokens
        made.first_s.append(first_s)
        made.wrong += text != self.expected.setdefault(prompt, text)

    async def client(self, number: int, until_s: float, made: Answers) -> None:
        async with self._session() as session:
            while time.perf_counter() < until_s:
                try:
                    await self.ask(session, number, made)
                except aiohttp.ClientError:
                    made.failed += 1
                number += 1

    async def turn(self, clients: int, seconds: float, made: Answers) -> None:
        begun = time.perf_counter()
        await asyncio.gather(*(self.client(number, begun + seconds, made) for number in range(clients)))
        made.took_s += time.perf_counter() - begun

    async def alone(self) -> None:
        """Learns what is expected; warm from then on."""
        async with self._session() as session:
            for number in range(len(PROMPTS)):
                await self.ask(session, number, Answers())

    def _session(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connector = aiohttp.TCPConnector(limit=0, force_close=self.reconnects)
        return aiohttp.ClientSession(connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=600))


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
            yield f"http://127.0.0.1:{port}/v1", psutil.Process(process.pid)
        finally:
            process.kill()


def run_gateway(port: int) -> None:
    from llmctl.confinement import NOT_ASKED, Confinement
    from llmctl.server.guards import Guard, guarded_gateway
    from llmctl.server.host_check import allowed_hosts

    url, token = json.load(sys.stdin)
    models = Models(Model(Address(url, NAME, token), NAME, context=CONTEXT))
    given_up = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    guard = Guard(allowed_hosts("127.0.0.1"), lambda token: None, False, given_up)
    guarded_gateway(models, socket.create_server(("127.0.0.1", port)), guard).run()


async def compare(engine: Server, through: Server, process: psutil.Process, clients: int, seconds: float) -> None:
    """Prints a row for each."""
    bare, made = Answers(), Answers()
    await through.turn(clients, WARM_S, Answers())
    while made.took_s < seconds:
        slice_s = min(SLICE_S, seconds)
        await engine.turn(clients, slice_s, bare)
        used_s = sum(process.cpu_times()[:2])
        await through.turn(clients, slice_s, made)
        made.cpu_s += sum(process.cpu_times()[:2]) - used_s
        made.memory.append(process.memory_info().rss)
    print(row(clients, ENGINE, bare, bare))
    print(row(clients, GATEWAY, made, bare), flush=True)
    RESULTS[clients] = (bare, made)


RESULTS: dict[int, tuple[Answers, Answers]] = {}
HEAD = (
    f"{'clients':>7} {'server':16}{'tok/s':>9}{'x':>7}{'first ms':>10}{'95 %':>8}{'more':>7}{'answers':>9}"
    f"{'refused':>9}{'failed':>8}{'wrong':>7}{'CPU ms':>8}{'MB':>15}"
)


def row(clients: int, name: str, made: Answers, bare: Answers) -> str:
    ratio = f"{made.rate / bare.rate:.3f}" if bare.rate else "-"
    cpu = f"{made.cpu_s / max(1, made.answers) * 1e3:.2f}" if made.cpu_s else "-"
    memory = f"{made.memory[0] / 1e6:.1f} to {made.memory[-1] / 1e6:.1f}" if made.memory else "-"
    return (
        f"{clients:7} {name:16}{made.rate:9.1f}{ratio:>7}{made.first_ms:10.1f}{made.tail_ms:8.1f}"
        f"{made.first_ms - bare.first_ms:+7.1f}{made.answers:9}{made.refused:9}{made.failed:8}{made.wrong:7}"
        f"{cpu:>8}{memory:>15}"
    )


@contextlib.contextmanager
def others(file: Path, given: argparse.Namespace) -> Iterator[list[tuple[str, str, str | None]]]:
    """Name, URL and token of those that are here."""
    started: list[tuple[str, str, str | None]] = []
    with contextlib.ExitStack() as stack:
        fit = fit_for(file, context=CONTEXT, threads=given.threads, sequences=given.sequences, name=NAME)
        if (program := server_of(given.llama_server)) is not None:
            engine = stack.enter_context(llama_server.start(replace(fit, server=program)))
            started.append(("llama-server", engine.address.url, engine.address.token))
        if find_spec("xllamacpp") is not None:
            url = stack.enter_context(xllamacpp_url(file, given.sequences, given.threads))
            started.append(("xllamacpp", url, None))
        if (own := stack.enter_context(own_server_url(file, given.threads))) is not None:
            started.append(("llama-cpp-python", own, None))
        yield started


async def beside(servers: Sequence[Server], clients: Sequence[int], seconds: float) -> None:
    for server in servers:
        try:
            await server.alone()
        except aiohttp.ClientError as error:
            print(f"{server.name} answers nothing: {type(error).__name__} {error}")
            continue
        for count in clients:
            made = Answers()
            await server.turn(count, seconds, made)
            print(row(count, server.name, made, RESULTS[count][0]), flush=True)


def missed(results: Mapping[int, tuple[Answers, Answers]]) -> Iterator[str]:
    """The targets that aren't met, in words."""
    for clients, (bare, made) in results.items():
        if made.failed or (made.wrong and not bare.wrong):  # a real model's engine rounds otherwise in company
            yield f"{clients} clients: {made.wrong} wrong and {made.failed} failed answers"
        if clients == COUNTED and made.rate < FLOOR * bare.rate:
            yield f"{clients} clients: x{made.rate / bare.rate:.3f} of the engine's rate, x{FLOOR} is the least"
        if clients <= COUNTED and made.first_ms - bare.first_ms > ADDED_MS:
            yield f"{clients} clients: {made.first_ms - bare.first_ms:.1f} ms to the first token, {ADDED_MS} at most"
        if max(made.memory) > made.memory[0] * (1 + FLAT):
            yield f"{clients} clients: memory grew from {made.memory[0]:,} to {max(made.memory):,} bytes"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path, nargs="?", metavar="FILE.gguf")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--seconds", type=float, default=120.0, help="for engine and gateway, each, at each number")
    options.add_argument("--others-seconds", type=float, default=15.0, help="for each other server; 0: none")
    options.add_argument("--sequences", type=int, default=4)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--tokens", type=int, default=WORDS)
    options.add_argument("--llama-server", type=Path, metavar="PROGRAM")
    options.add_argument("--gateway", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.gateway is not None:
        run_gateway(given.gateway)
        return 0
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        words = [f" w{number}" for number in range(WORDS)]
        file = given.file or write_scripted(Path(folder) / "scripted-F32.gguf", words)
        fit = fit_for(file, context=CONTEXT, threads=given.threads, sequences=given.sequences, name=NAME)
        with start(fit) as engine, gateway(engine.address) as (url, process):
            direct = Server(ENGINE, engine.address.url, engine.address.token, given.tokens)
            asyncio.run(direct.alone())
            through = Server(GATEWAY, url, None, given.tokens, direct.expected)
            for clients in given.clients:
                asyncio.run(compare(direct, through, process, clients, given.seconds))
        if given.others_seconds:
            with others(file, given) as started:
                servers = [Server(name, url, token, given.tokens, reconnects=True) for name, url, token in started]
                asyncio.run(beside(servers, given.clients, given.others_seconds))
    lacks = list(missed(RESULTS))
    print("\n".join(lacks) or "every target is met")
    return 1 if lacks else 0


if __name__ == "__main__":
    sys.exit(main())
