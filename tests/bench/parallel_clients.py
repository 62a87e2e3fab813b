"""Tokens per second of several clients at once: our worker beside others with the same file and threads, alternating.

    python tests/bench/parallel_clients.py FILE.gguf … [--shape llama-3.2-1b] [--clients 1 4 16] [--url NAME=URL …]

The others are llama-server, as llmctl starts it (``llmctl engine install llama-server``, or --llama-server PROGRAM),
the server in the xllamacpp wheel, if that is installed, and, with one client, the class ``Llama``, which answers one
prompt after another; with --slow also llama-cpp-python's own server; and whatever OpenAI-compatible servers are named.
--shape adds a file of that shape with random weights. All get the same settings and environment: a context of CONTEXT
for each client, batches as llmctl's llama-server has them; a model without a chat template continues the prompt. In
each round everybody answers the same prompts, which nobody has seen before. For the second half of the rounds all are
started anew in the opposite order: on two cores of an AMD EPYC, a virtual machine, the first of several to load a
file of 0.8 GB computed 7 % more slowly than the last, whichever that was (twice each: x0.92 and x0.92 of the other,
x1.04 and x1.07 in the opposite order), as memory is given out. The rate counts the tokens of all answers,
from the first request to the end of the last answer. Prints every round, then the median of our rate over each other's
with its spread, and the median time to the first token.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE
from typing import Any

import requests
from msgspec.structs import replace

from llmctl import child, settings
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.llama_server import programs
from llmctl.engine.llama_server import start as llama_server
from llmctl.engine.llama_server.options import PLAIN_TEMPLATE, SHARED_BATCH
from llmctl.gguf.header import read_file
from llmctl.struct import asdict
from llmctl.types.engine import NativeServer
from llmctl.types.plan import UBATCH, Configuration
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import model_shape, write_model

XLLAMACPP = Path(__file__).parent / "xllamacpp_server.py"
OURS = "worker"
CONTEXT = 1024  # tokens for each client
START_S = 120.0


@dataclass(frozen=True)
class Answer:
    tokens: int
    first_s: float


def environment() -> dict[str, str]:
    """Threads that wait do so as llmctl's do; Python's path is ours."""
    return {**child.environment(os.environ), "PYTHONPATH": os.pathsep.join(sys.path)}


Answering = Callable[[Sequence[str]], list[Answer]]  # all prompts at once


def over_http(url: str, token: str | None, model: str, tokens: int) -> Answering:
    def one(prompt: str) -> Answer:
        body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        body |= {"max_tokens": tokens, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        begun, first_s, chunks, usage = time.perf_counter(), 0.0, 0, None
        with requests.post(f"{url}/chat/completions", json=body, headers=headers, stream=True, timeout=600) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line.removeprefix(b"data: "))
                usage = event.get("usage") or usage
                if any(choice["delta"].get("content") for choice in event["choices"]):
                    first_s = first_s or time.perf_counter() - begun
                    chunks += 1
        return Answer(usage["completion_tokens"] if usage else chunks, first_s)

    def everybody(prompts: Sequence[str]) -> list[Answer]:
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(one, prompts))

    return everybody


@contextlib.contextmanager
def worker(file: Path, clients: int, threads: int, tokens: int) -> Iterator[Answering]:
    with start(fit_for(file, context=CONTEXT, threads=threads, sequences=clients)) as engine:
        address = engine.address
        yield over_http(address.url, address.token, address.model, tokens)


@contextlib.contextmanager
def native(file: Path, clients: int, threads: int, tokens: int, server: NativeServer) -> Iterator[Answering]:
    fit = fit_for(file, context=CONTEXT, threads=threads, sequences=clients)
    with llama_server.start(replace(fit, server=server)) as engine:
        address = engine.address
        yield over_http(address.url, address.token, address.model, tokens)


@contextlib.contextmanager
def xllamacpp_url(file: Path, clients: int, threads: int) -> Iterator[str]:
    template = PLAIN_TEMPLATE if read_file(file).chat_template is None else None
    batch = SHARED_BATCH if clients > 1 else UBATCH
    about = {"file": str(file), "clients": clients, "context": CONTEXT, "threads": threads, "batch": batch}
    argv = [sys.executable, str(XLLAMACPP), json.dumps({**about, "template": template})]
    with subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        try:
            yield f"{process.stdout.readline().strip()}/v1"
        finally:
            process.kill()


@contextlib.contextmanager
def xllamacpp(file: Path, clients: int, threads: int, tokens: int) -> Iterator[Answering]:
    with xllamacpp_url(file, clients, threads) as url:
        yield over_http(url, None, file.stem, tokens)


@contextlib.contextmanager
def own_server_url(file: Path, threads: int) -> Iterator[str | None]:
    """llama-cpp-python's; None where it doesn't start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--n_threads_batch", str(threads)]
    argv += ["--interrupt_requests", "false"]  # else the next client ends the answer of the one before
    with subprocess.Popen(argv, stdout=DEVNULL, stderr=DEVNULL, env=environment()) as process:
        try:
            url = f"http://127.0.0.1:{port}/v1"
            yield url if answers(url, process) else None
        finally:
            process.kill()


@contextlib.contextmanager
def own_server(file: Path, threads: int, tokens: int) -> Iterator[Answering | None]:
    with own_server_url(file, threads) as url:
        yield None if url is None else over_http(url, None, file.name, tokens)


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/models", timeout=5).ok:
                return True
        time.sleep(0.2)
    return False


@contextlib.contextmanager
def bare(file: Path, threads: int, tokens: int) -> Iterator[Answering]:
    """``Llama`` in a process of its own, one line of JSON for each set of prompts."""
    settings = {**asdict(Configuration(CONTEXT)), "threads": threads, "prefill_threads": threads}
    question = json.dumps({"file": str(file), "settings": settings, "tokens": tokens})
    argv = [sys.executable, __file__, "--child", question]
    with subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, text=True, env=environment()) as process:
        assert process.stdin is not None and process.stdout is not None
        to, source = process.stdin, process.stdout

        def everybody(prompts: Sequence[str]) -> list[Answer]:
            to.write(json.dumps(prompts) + "\n")
            to.flush()
            return [Answer(**answer) for answer in json.loads(source.readline())]

        try:
            yield everybody
        finally:
            process.kill()


def answer_as_child(question: dict[str, Any]) -> None:
    from tests.bench.bare_llama import bare_llama

    llama = bare_llama(question["file"], question["settings"])
    has_template = "tokenizer.chat_template" in llama.metadata
    limits = {"max_tokens": question["tokens"], "temperature": 0, "stream": True}

    def complete(prompt: str) -> Any:
        if not has_template:
            return llama.create_completion(prompt, **limits)
        return llama.create_chat_completion([{"role": "user", "content": prompt}], **limits)

    for line in sys.stdin:
        answers, begun = [], time.perf_counter()
        for prompt in json.loads(line):
            first_s, count = 0.0, 0
            for choice in (chunk["choices"][0] for chunk in complete(prompt)):
                if choice.get("text") or choice.get("delta", {}).get("content"):
                    first_s = first_s or time.perf_counter() - begun
                    count += 1
            answers.append({"tokens": count, "first_s": first_s})
        print(json.dumps(answers), flush=True)


@dataclass
class Series:
    """What a contender did in the rounds so far: tokens per second of each, seconds to each answer's first token."""

    rates: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


def compare(contenders: dict[str, Answering], clients: int, rounds: range, series: dict[str, Series]) -> None:
    """Adds ``rounds`` of all contenders to ``series``."""
    names = list(contenders)
    for name in names:
        contenders[name](["Hello."])  # the disk cache is warm and the threads are awake from here on
    for at in rounds:
        prompts = [f"Write a story about the number {1000 * at + 10 * clients + one}." for one in range(clients)]
        for name in names[at % len(names) :] + names[: at % len(names)]:
            begun = time.perf_counter()
            made = contenders[name](prompts)
            series[name].rates.append(sum(answer.tokens for answer in made) / (time.perf_counter() - begun))
            series[name].firsts += [answer.first_s for answer in made]
        shown = ", ".join(f"{name} {series[name].rates[-1]:.1f}/s" for name in names)
        print(f"{clients:3} clients, round {at + 1}: {shown}", flush=True)


def show(clients: int, series: dict[str, Series]) -> None:
    ours = series[OURS].rates
    for name, made in series.items():
        if not all(made.rates):
            print(f"{clients:3} clients, {name:12} wrote nothing: is {name}'s chat template one for this model?")
            continue
        ratios = [our / their for our, their in zip(ours, made.rates, strict=True)]
        spread = f"x{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        first = f"first token {median(made.firsts):.2f} s"
        print(
            f"{clients:3} clients, {name:12} {median(made.rates):6.1f} tokens/s, {first}, ours is {spread}", flush=True
        )


def contenders(
    file: Path, clients: int, given: argparse.Namespace, server: NativeServer | None
) -> dict[str, AbstractContextManager[Answering | None]]:
    """By name, those that can be started here."""
    threads, tokens = given.threads, given.tokens
    made: dict[str, AbstractContextManager[Answering | None]] = {OURS: worker(file, clients, threads, tokens)}
    if server is not None:
        made["llama-server"] = native(file, clients, threads, tokens, server)
    if find_spec("xllamacpp") is not None:
        made["xllamacpp"] = xllamacpp(file, clients, threads, tokens)
    if clients == 1 or given.slow:
        made["Llama"] = bare(file, threads, tokens)
    if given.slow:
        made["its server"] = own_server(file, threads, tokens)
    for name, _, url in (named.partition("=") for named in given.url):
        made[name] = contextlib.nullcontext(over_http(url, None, file.stem, tokens))
    return made


def server_of(given: Path | None) -> NativeServer | None:
    for program in programs.programs(given or settings.load().llama_server):
        if (about := programs.asked(program)).usable:
            return programs.server_of(program, about)
    print("no llama-server can be used here: llmctl engine install llama-server")
    return None


def measure(file: Path, counts: Sequence[int], given: argparse.Namespace, server: NativeServer | None) -> None:
    print(f"{file.name}, {given.threads} threads, {given.tokens} tokens", flush=True)
    for clients in counts:
        series: dict[str, Series] = {}
        half = given.rounds // 2
        for is_turned, rounds in ((False, range(half)), (True, range(half, given.rounds))):
            started = list(contenders(file, clients, given, server).items())
            with contextlib.ExitStack() as stack:
                order = reversed(started) if is_turned else started
                answering = {name: stack.enter_context(starting) for name, starting in order}
                for name in [name for name, answers in answering.items() if answers is None]:
                    print(f"{name} doesn't start here (pip install 'llama-cpp-python[server]')")
                usable = {name: answering[name] for name, _ in started}
                series = series or {name: Series() for name, answers in usable.items() if answers}
                compare({name: answers for name, answers in usable.items() if answers}, clients, rounds, series)
        show(clients, series)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        answer_as_child(json.loads(sys.argv[2]))
        return
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("files", type=Path, nargs="*", metavar="FILE.gguf")
    options.add_argument("--shape", action="append", default=[], help="also a file of that shape, with random weights")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    options.add_argument("--shape-clients", type=int, nargs="+", default=[1, 4], help="as --clients, for shapes")
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--tokens", type=int, default=24)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--llama-server", type=Path, metavar="PROGRAM")
    options.add_argument("--slow", action="store_true", help="also what answers one prompt after another")
    options.add_argument("--url", action="append", default=[], metavar="NAME=URL", help="another server, ending in /v1")
    given = options.parse_args()
    server = server_of(given.llama_server)
    for file in given.files:
        measure(file, given.clients, given, server)
    for name in given.shape:
        with tempfile.TemporaryDirectory() as folder:
            file = write_model(Path(folder) / f"{name}.gguf", model_shape(name))
            measure(file, given.shape_clients, given, server)


if __name__ == "__main__":
    main()
