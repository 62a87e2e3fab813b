"""A gateway with guards that takes sealed requests, and what a client of the test's own seals for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import requests
from starlette.types import ASGIApp

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.sealed.binary_http import MessageDecoder, RequestHead, ResponseHead, request
from llmctl.sealed.chunks import ChunkSplitter
from llmctl.sealed.encapsulation import NONCE_BYTES, RequestSealer
from llmctl.sealed.names import PATH, REQUESTS
from llmctl.server.app import create_app
from llmctl.server.guards import Guard, guards
from llmctl.server.host_check import allowed_hosts
from llmctl.server.metrics import Metrics
from llmctl.server.sealed import SealedRequests, Sealing
from llmctl.types.endpoint import Address, Seal, Trust
from llmctl.workspace import tokens
from llmctl.workspace.replay_memory import ReplayMemory
from llmctl.workspace.seal_keys import SealKeys
from tests.fakes import guarded
from tests.fakes.gateway import Models

PAD_BYTES = 64


@dataclass
class SealedGateway:
    """``token`` lets in. ``weeks`` have passed on the clock of its keys."""

    port: int
    folder: Path
    token: str = ""
    clock: Clock = field(default_factory=lambda: Clock())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def line(self) -> str:
        return self.keys.newest.line

    keys: SealKeys = field(init=False)

    def address(self, url: str | None = None, *, seal: Seal | None = None, trust: Trust | None = None) -> Address:
        seal = Seal(self.line, PAD_BYTES) if seal is None else seal
        return Address(url or self.url, "scripted", self.token, trust or Trust(), seal=seal)


@dataclass
class Clock:
    """Seconds that have passed beside those of the real one."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@contextmanager
def sealed_gateway(models: Models, folder: Path) -> Iterator[SealedGateway]:
    made = SealedGateway(0, folder, tokens.new_token())
    nothing = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    made.keys = SealKeys(folder, made.clock)
    with ReplayMemory(folder / "seen") as replays:
        sealing = Sealing(made.keys, replays, PAD_BYTES)
        allowed = allowed_hosts("127.0.0.1")
        guard = Guard(allowed, tokens.KnownTokens(made.token).of, True, nothing, sealing=sealing)
        app = create_app(models, middleware=guards(guard, Metrics()), ping_s=0.1)
        with guarded.listening(app) as made.port:
            yield made


@contextmanager
def sealed_app(app: ASGIApp, folder: Path) -> Iterator[SealedGateway]:
    """Without guards, before an application of the test's own; the clock is that of its dates, too."""
    made = SealedGateway(0, folder)
    made.keys = SealKeys(folder, made.clock)
    with ReplayMemory(folder / "seen") as replays:
        sealing = Sealing(made.keys, replays, PAD_BYTES)
        with guarded.listening(SealedRequests(app, sealing=sealing, now_s=made.clock)) as made.port:
            yield made


@dataclass
class Posted:
    """``outer`` is as it came; ``head`` and ``content`` are what was sealed in it, if that could be opened."""

    outer: requests.Response
    head: ResponseHead | None = None
    content: bytes = b""


def post(
    gateway: SealedGateway,
    *,
    head: RequestHead | None = None,
    date_s: float | None = None,
    change: Callable[[bytes], bytes] = bytes,
    content: bytes = b"",
) -> Posted:
    """Seals ``head``, dated ``date_s``, and opens the answer. ``change`` gets the sealed request."""
    date = formatdate(time.time() if date_s is None else date_s, usegmt=True)
    head = head or RequestHead("GET", "http", "127.0.0.1", "/health", (("date", date),))
    sealer = RequestSealer(gateway.keys.newest)
    return opened(sealer, send(gateway, change(sealer.whole(request(head, content)))))


def send(gateway: SealedGateway, sealed: bytes, kind: str = REQUESTS) -> requests.Response:
    url = f"http://127.0.0.1:{gateway.port}{PATH}"
    return requests.post(url, data=sealed, headers={"content-type": kind}, timeout=20)


def opened(sealer: RequestSealer, outer: requests.Response) -> Posted:
    if outer.status_code != 200:
        return Posted(outer)
    cipher, splitter, decoder = sealer.answer(outer.content[:NONCE_BYTES]), ChunkSplitter(), MessageDecoder()
    for chunk in splitter.feed(outer.content[NONCE_BYTES:]):
        decoder.feed(cipher.open(chunk))
    decoder.feed(cipher.open(splitter.end(), is_final=True))
    decoder.end()
    assert isinstance(decoder.head, ResponseHead)
    return Posted(outer, decoder.head, decoder.taken())


def parts(whole: bytes) -> list[bytes]:
    """A sealed answer: its nonce, then each chunk with its length."""
    found, at = [whole[:NONCE_BYTES]], NONCE_BYTES
    while whole[at]:
        size = 1 << (whole[at] >> 6)
        length = int.from_bytes(whole[at : at + size], "big") & ((1 << (8 * size - 2)) - 1)
        found.append(whole[at : at + size + length])
        at += size + length
    return [*found, whole[at:]]
