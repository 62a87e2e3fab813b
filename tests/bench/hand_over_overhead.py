"""What handing over costs beside a bare stream of requests: first token and throughput, alternating.

usage: python -m tests.bench.hand_over_overhead [--pairs 50] [--tokens 2000] [--processes 5] [--rate 200]

Both ask the same server on loopback, whose answer comes as fast as they take it, or ``--rate`` tokens a second. In this
process: the router's way, with notice, receipt and all, against ``requests.post(stream=True)`` with the events parsed
by ``json``; printed are the medians of the differences to the first token, and of the ratios of tokens a second over
the whole answer. Then whole processes, ``llmctl run --endpoint`` against ``python -c`` with the same lines of requests,
timed from their start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from llmctl.engine.pool import Pool
from llmctl.router.answer import events
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.endpoint import Endpoint, LeaveReason, Remote
from llmctl.types.event import Text
from llmctl.types.listener import SilentListener
from llmctl.types.request import Request
from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, data, event

ROOT = Path(__file__).parents[2]
PROMPT = "Why is the sky blue?"
BARE = """
import json, sys, requests
body = {"model": "m", "messages": [{"role": "user", "content": sys.argv[2]}], "stream": True}
with requests.post(sys.argv[1] + "/chat/completions", json=body, stream=True) as response:
    for line in response.iter_lines(chunk_size=None):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            for choice in json.loads(line[6:])["choices"]:
                sys.stdout.write(choice["delta"].get("content") or "")
                sys.stdout.flush()
"""


def writes(tokens: int, pause_s: float) -> Reply:
    """An answer of so many tokens, each an event and a chunk of its own."""
    words = event(" word")
    chunk = b"%x\r\n%b\r\n" % (len(words), words)
    used = data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}})
    end = b"".join((event(finish="stop"), used, DONE))

    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        for _ in range(tokens):
            handler.wfile.write(chunk)
            if pause_s:
                time.sleep(pause_s)
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))

    return reply


def routed(url: str) -> tuple[float, float, int]:
    """Seconds to the first word and to the end, and words."""
    route = Remote(Endpoint("office", url, "m"), LeaveReason.PINNED, "you asked for it")
    begun_s, first_s, words = time.perf_counter(), 0.0, 0
    stream = events(
        route, Request.of(PROMPT), listener=SilentListener(), lease=Pool().lease, so_far=PartialAnswer(), record=False
    )
    for each in stream:
        if isinstance(each, Text):
            words += 1
            first_s = first_s or time.perf_counter() - begun_s
    return first_s, time.perf_counter() - begun_s, words


def bare(url: str) -> tuple[float, float, int]:
    """The same by requests alone."""
    begun_s, first_s, words = time.perf_counter(), 0.0, 0
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": True}
    with requests.post(f"{url}/chat/completions", json=body, stream=True, timeout=60) as response:
        for line in response.iter_lines(chunk_size=None):
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                for choice in json.loads(line[6:])["choices"]:
                    if choice["delta"].get("content"):
                        words += 1
                        first_s = first_s or time.perf_counter() - begun_s
    return first_s, time.perf_counter() - begun_s, words


def in_this_process(url: str, pairs: int, tokens: int) -> None:
    later_ms, ratios = [], []
    for number in range(pairs):
        both = {each: each(url) for each in ((routed, bare) if number % 2 else (bare, routed))}
        (ours_first_s, ours_s, ours), (their_first_s, theirs_s, theirs) = both[routed], both[bare]
        assert ours == theirs == tokens, (ours, theirs)
        later_ms.append((ours_first_s - their_first_s) * 1000)
        ratios.append(theirs_s / ours_s)
    print(f"first token {shown(later_ms)} ms later; throughput {shown(ratios)} of the bare stream's")


def whole_processes(url: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "config.toml").write_text(f'[endpoints.office]\nurl = "{url}"\nmodel = "m"\n')
        config = Path(home) / "llmctl"
        config.mkdir()
        (config / "config.toml").write_text(f'[endpoints.office]\nurl = "{url}"\nmodel = "m"\n')
        environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "PYTHONPATH": str(ROOT)}
        ours = [sys.executable, "-m", "llmctl", "run", "-q", "--no-stdin", "-e", "office", PROMPT]
        theirs = [sys.executable, "-c", BARE, url, PROMPT]
        times = [(first_byte_s(ours, environment), first_byte_s(theirs, environment)) for _ in range(count)]
    own, without = ([each[side] for each in times] for side in (0, 1))
    print(f"whole processes: {shown(own)} s to the first byte, {shown(without)} s bare")


def first_byte_s(command: list[str], environment: dict[str, str]) -> float:
    begun_s = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        took_s = time.perf_counter() - begun_s
        process.stdout.read()
    return took_s


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rate", type=float, help="tokens a second of the server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HOME": home, "XDG_DATA_HOME": home, "XDG_STATE_HOME": home}  # receipts are written, as always
        with ChatServer(writes(options.tokens, 1 / options.rate if options.rate else 0.0)) as server:
            routed(server.url), bare(server.url)  # imports
            in_this_process(server.url, options.pairs, options.tokens)
            whole_processes(server.url, options.processes)


if __name__ == "__main__":
    main()
