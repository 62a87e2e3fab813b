"""Sealed requests to a real gateway, straight and through proxies that read all: what they learn, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from llmctl.checks.endpoint import examine
from llmctl.endpoint import seal_pins
from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.document import posted_to_server
from llmctl.endpoint.forwarding import forwarded
from llmctl.endpoint.health import offer
from llmctl.endpoint.privacy import privacy
from llmctl.endpoint.sealed_keys import opened_by
from llmctl.errors import AccessError, LlmctlError, NetworkError, SealError
from llmctl.sealed.binary_http import RequestHead
from llmctl.sealed.encapsulation import configuration_of, new_private_key
from llmctl.sealed.key_configuration import listed
from llmctl.sealed.names import DATE_PROBLEM, KEY_PROBLEM, KEYS, PATH
from llmctl.types.endpoint import Address, Endpoint, KeyFile, Seal, Trust
from llmctl.types.event import Event, Finished, Text
from llmctl.types.finding import Check
from llmctl.types.request import Request
from llmctl.workspace.replay_memory import KEPT_S, ReplayMemory
from llmctl.workspace.seal_keys import WEEK_S, SealKeys
from tests.fakes.chat_server import ChatServer, Handler, status
from tests.fakes.gateway import Models
from tests.fakes.listening import SOON, listen
from tests.fakes.nginx import nginx
from tests.fakes.reading_proxy import ReadingProxy
from tests.fakes.sealed_gateway import PAD_BYTES, SealedGateway, parts, post, sealed_app, sealed_gateway, send

PROMPT = "the prompt that nobody on the way reads"
ANSWER = "The answer is 42."


@pytest.fixture(scope="module")
def gateway(served: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SealedGateway]:
    with sealed_gateway(served, tmp_path_factory.mktemp("sealed")) as made:
        yield made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return Trust(str(file))


def asked(address: Address) -> Iterator[Event]:
    yield from chat(address, request_body(address, Request.of(PROMPT)))


def text(address: Address) -> str:
    return "".join(event.text for event in asked(address) if isinstance(event, Text))


def test_answers_what_is_sealed_and_what_is_not(gateway: SealedGateway) -> None:
    assert text(gateway.address()) == ANSWER
    assert text(replace(gateway.address(), seal=None)) == ANSWER
    assert offer(gateway.address()).models == ("scripted",)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "TLS alone"])
def test_what_a_proxy_reads(gateway: SealedGateway, authority: trustme.CA, trust: Trust, sealed: bool) -> None:
    """The prompt, the key, the path and the answer: none of them when it is sealed, all of them when it isn't."""
    with ReadingProxy(gateway.port, authority=authority) as proxy:
        address = gateway.address(proxy.url, trust=trust)
        assert text(address if sealed else replace(address, seal=None)) == ANSWER
        secrets = (PROMPT, gateway.token, "/v1/chat/completions", " answer")
        assert [secret.encode() in proxy.log for secret in secrets] == [not sealed] * 4


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "TLS alone"])
def test_what_a_real_nginx_logs(
    gateway: SealedGateway, authority: trustme.CA, trust: Trust, tmp_path: Path, sealed: bool
) -> None:
    certificate(authority, tmp_path)
    with nginx(tmp_path, gateway.port) as port:
        address = gateway.address(f"https://127.0.0.1:{port}/v1", trust=trust)
        assert text(address if sealed else replace(address, seal=None)) == ANSWER
    log = (tmp_path / "access.log").read_text(encoding="utf-8")
    assert [secret in log for secret in (PROMPT, gateway.token, "/v1/chat/completions")] == [not sealed] * 3
    assert (f"POST {PATH} HTTP/1.1" in log) == sealed


WAYS: dict[str, Callable[[Address], object]] = {
    "a chat": text,
    "a list of models": offer,
    "another program's request": lambda address: passed_on(address),
    "a document": lambda address: posted_to_server(address, "/embeddings", {}, timing=SOON, on_sent=lambda count: None),
    "what becomes of prompts": privacy,
}


def passed_on(address: Address) -> bytes:
    body = request_body(address, Request.of(PROMPT))
    with forwarded(address, body, timing=SOON, on_sent=lambda count: None) as answer:
        return b"".join(answer.pieces)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_which_a_server_is_asked_is_sealed(gateway: SealedGateway, way: str) -> None:
    with ReadingProxy(gateway.port) as proxy:
        with contextlib.suppress(LlmctlError):  # it has no vectors
            WAYS[way](gateway.address(proxy.url))
        assert proxy.bodies and gateway.token.encode() not in proxy.log and b"/v1/" not in proxy.log


def certificate(authority: trustme.CA, folder: Path) -> None:
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")


PIECES, PAUSE_S = 4, 0.1
WORDS = "".join(f"{number} " for number in range(PIECES))


def writing(pause_s: float) -> Starlette:
    """Streams an answer of PIECES words, each in a message of its own, and says how long that has taken."""

    async def write(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(PIECES):
            await asyncio.sleep(pause_s)
            piece = {"choices": [{"index": 0, "delta": {"content": f"{number} "}}]}
            await send({"type": "http.response.body", "body": event(piece), "more_body": True})
        end = {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "timings": {"predicted_ms": 1000 * pause_s * PIECES},
        }
        await send({"type": "http.response.body", "body": event(end) + b"data: [DONE]\n\n"})

    return Starlette(routes=[Mount("/", write)])


def event(document: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


@pytest.mark.parametrize("keeps_back", [False, True], ids=["as it comes", "keeps streams back"])
def test_a_real_nginx_passes_a_sealed_stream_on_unless_it_is_told_not_to(
    authority: trustme.CA, trust: Trust, tmp_path: Path, keeps_back: bool
) -> None:
    certificate(authority, tmp_path)
    more = "proxy_ignore_headers X-Accel-Buffering;" if keeps_back else ""
    with sealed_app(writing(PAUSE_S), tmp_path) as gateway, nginx(tmp_path, gateway.port, more) as port:
        times = []
        for event in asked(gateway.address(f"https://127.0.0.1:{port}/v1", trust=trust)):
            times.append(time.monotonic())
            assert not isinstance(event, Finished) or event.decode_s == PAUSE_S * PIECES
    spread_s = times[PIECES - 1] - times[0]
    assert (spread_s < PAUSE_S) == keeps_back


@pytest.fixture
def pinned(gateway: SealedGateway, home: Path) -> Callable[..., Endpoint]:
    """An endpoint as ``endpoint add --seal-key`` keeps it."""
    (home / "key").write_text(gateway.token, encoding="utf-8")
    (home / "key").chmod(0o600)

    def made(line: str | None = None) -> Endpoint:
        return Endpoint("desk", gateway.url, "scripted", KeyFile(str(home / "key")), seal=Seal(line or gateway.line))

    return made


def test_endpoint_test_says_that_it_is_sealed_and_for_which_key(
    gateway: SealedGateway, pinned: Callable[..., Endpoint]
) -> None:
    findings: list[Check] = []
    examine(pinned(), findings.append)
    said = next(check.message for check in findings if check.id == "sealed")
    assert said == f"it opens what is sealed for the pinned key, {gateway.keys.newest.fingerprint}"
    assert next(check for check in findings if check.id == "answer").status == "ok"


def test_another_key_is_an_error_and_nothing_goes_in_clear(gateway: SealedGateway) -> None:
    wrong = configuration_of(gateway.keys.newest.identifier, new_private_key()).line
    unknown = configuration_of(77, new_private_key()).line
    with ReadingProxy(gateway.port) as proxy:
        for line, words in ((wrong, "can't be opened"), (unknown, "key identifier unknown")):
            with pytest.raises(SealError, match=words) as caught:
                text(gateway.address(proxy.url, seal=Seal(line)))
            assert "--seal-key llmctl-key:" in str(caught.value.hint)
        assert PROMPT.encode() not in proxy.log and len(proxy.bodies) == 2


def test_a_token_that_opens_nothing_is_refused_inside(gateway: SealedGateway) -> None:
    with pytest.raises(AccessError, match="401"):
        text(replace(gateway.address(), token="llmctl-wrong"))


Parts = list[bytes]
TAMPERINGS: dict[str, Callable[[Parts], Parts]] = {
    "altered": lambda chunks: [*chunks[:3], chunks[3][:-1] + bytes([chunks[3][-1] ^ 1]), *chunks[4:]],
    "swapped": lambda chunks: [*chunks[:3], chunks[4], chunks[3], *chunks[5:]],
    "repeated": lambda chunks: [*chunks[:3], chunks[2], *chunks[3:]],
    "dropped": lambda chunks: [*chunks[:3], *chunks[4:]],
    "cut off": lambda chunks: chunks[:3],
    "cut off in a chunk": lambda chunks: [*chunks[:3], chunks[3][:-5]],
}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SealedGateway]:
    with sealed_app(writing(0), tmp_path_factory.mktemp("writer")) as made:
        yield made


@pytest.mark.parametrize("name", TAMPERINGS)
def test_chunks_that_were_tampered_with_end_the_answer_and_what_came_before_is_said(
    writer: SealedGateway, name: str
) -> None:
    said = ""
    with ReadingProxy(writer.port, lambda whole: b"".join(TAMPERINGS[name](parts(whole)))) as proxy:
        events = asked(writer.address(proxy.url))
        with pytest.raises(SealError, match=r"is broken .* the [0-9,]+ bytes before it are as they were sealed"):
            while True:
                word = next(events)
                assert isinstance(word, Text)
                said += word.text
    assert said == WORDS[:4]


UNSEALED: dict[str, tuple[Callable[[Handler], None], str]] = {
    "an answer in clear": (status(200, {"choices": [{"message": {"content": "no"}}]}), "answered in clear"),
    "a page": (status(404, {"detail": "nothing here"}), "does not take sealed requests"),
    "a demand for a password": (status(401, {"title": "who?"}), r"does not take sealed requests \(401: who\?\)"),
    "a problem of the key": (status(400, {"type": KEY_PROBLEM, "title": "key identifier unknown"}), "pinned key"),
}


@pytest.mark.parametrize("name", UNSEALED)
def test_what_comes_in_clear_is_never_an_answer(name: str) -> None:
    reply, words = UNSEALED[name]
    with ChatServer(reply) as server, pytest.raises(SealError, match=words):
        text(replace(server.address(), seal=Seal(configuration_of(1, new_private_key()).line)))
    assert len(server.requests) == 1


def test_what_is_down_on_the_way_is_asked_again(gateway: SealedGateway) -> None:
    with ChatServer(status(503, {})) as server, pytest.raises(NetworkError, match="503"):
        listen(replace(gateway.address(), url=server.url), timing=SOON)
    assert len(server.requests) == 3 and len({request.body for request in server.requests}) == 3


def test_a_request_is_answered_once(gateway: SealedGateway) -> None:
    kept: list[bytes] = []

    def keep(sealed: bytes) -> bytes:
        kept.append(sealed)
        return sealed

    assert post(gateway, change=keep).content == b'{"status":"ready"}'
    again = send(gateway, kept[0])
    assert (again.status_code, again.json()["title"]) == (400, "this request has come before")


def test_a_request_is_answered_once_also_after_a_new_start(tmp_path: Path) -> None:
    now = [1000.0]
    with ReplayMemory(tmp_path / "seen", lambda: now[0]) as memory:
        memory.add(b"1" * 32)
        now[0] += KEPT_S - 1
        memory.add(b"2" * 32)
    with (tmp_path / "seen").open("ab") as file:
        file.write(b"cut off")
    now[0] += 2
    with ReplayMemory(tmp_path / "seen", lambda: now[0]) as memory:
        assert (memory.has_seen(b"1" * 32), memory.has_seen(b"2" * 32)) == (False, True)


@pytest.mark.parametrize(("off_s", "status"), [(-55, 200), (55, 200), (-65, 400), (65, 400)])
def test_a_date_that_is_more_than_a_minute_off_is_refused(gateway: SealedGateway, off_s: float, status: int) -> None:
    answer = post(gateway, date_s=time.time() + off_s)
    assert answer.head is not None and answer.head.status == status and answer.outer.status_code == 200
    if status == 400:
        assert json.loads(answer.content)["type"] == DATE_PROBLEM


def test_a_request_without_a_date_is_refused(gateway: SealedGateway) -> None:
    head = post(gateway, head=RequestHead("GET", "http", "127.0.0.1", "/health")).head
    assert head is not None and head.status == 400


def test_a_clock_that_is_off_is_said_with_both_numbers(tmp_path: Path) -> None:
    with sealed_app(writing(0), tmp_path) as gateway:
        gateway.clock.ahead_s = 3600
        with pytest.raises(SealError, match=r"3,(599|600|601) s behind that of 127.0.0.1:\d+; 60 s are taken"):
            text(gateway.address())


NOT_OPENED: dict[str, Callable[[bytes], bytes]] = {
    "altered": lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]),
    "cut off": lambda sealed: sealed[:-20],
    "cut off in the header": lambda sealed: sealed[:20],
    "nothing": lambda sealed: b"",
    "of another algorithm": lambda sealed: sealed[:6] + b"\3" + sealed[7:],
}


@pytest.mark.parametrize("name", NOT_OPENED)
def test_what_can_t_be_opened_is_refused_in_clear(gateway: SealedGateway, name: str) -> None:
    outer = post(gateway, change=NOT_OPENED[name]).outer
    assert (outer.status_code, outer.headers["content-type"]) == (400, "application/problem+json")
    assert outer.json()["type"] == KEY_PROBLEM


def test_what_was_sealed_and_is_no_request_is_refused_sealed(gateway: SealedGateway) -> None:
    nested = RequestHead("POST", "http", "127.0.0.1", PATH)
    answer = post(gateway, head=nested)
    assert answer.head is not None and answer.head.status == 400
    assert json.loads(answer.content)["title"] == "a sealed request in a sealed request"


def test_takes_nothing_else_at_its_path(gateway: SealedGateway) -> None:
    assert send(gateway, b"{}", "application/json").status_code == 415


def test_sizes_are_multiples_on_both_ways(writer: SealedGateway) -> None:
    seen: list[bytes] = []

    def keep(whole: bytes) -> bytes:
        seen.append(whole)
        return whole

    with ReadingProxy(writer.port, keep) as proxy:
        assert text(writer.address(proxy.url)) == WORDS
        header, _, message = proxy.bodies[0][:39], proxy.bodies[0][39], proxy.bodies[0][40:]
        assert header and (len(message) - 16) % PAD_BYTES == 0
    *chunks, last = parts(seen[0])[1:]
    assert len(chunks) == PIECES
    assert {(len(chunk) - 2 - 16) % PAD_BYTES for chunk in chunks} == {0}
    assert (len(last) - 1 - 16) % PAD_BYTES == 0


def test_keys_rotate_and_a_pinned_one_vouches_for_those_that_follow(served: Models, tmp_path: Path) -> None:
    with sealed_gateway(served, tmp_path) as gateway:
        seal = Seal(gateway.line)
        lines = [gateway.line]
        for _ in range(2):
            gateway.clock.ahead_s += WEEK_S + 1
            assert text(gateway.address(seal=seal)) == ANSWER  # sealed for a key that has one after it by now
            lines.append(gateway.line)
            assert seal_pins.current(seal).line == lines[-1]
        assert len(set(lines)) == 3
        address = gateway.address(seal=seal)
        assert opened_by(address, seal).line == lines[-1]
        files = {file.name for file in tmp_path.glob("key-*")}
        assert files == {"key-2.json", "key-3.json"}
        gateway.clock.ahead_s += WEEK_S
        gateway.keys.renew()
        assert {file.name for file in tmp_path.glob("key-*")} == {"key-3.json", "key-4.json"}
        assert SealKeys(tmp_path, gateway.clock).newest == gateway.keys.newest


def test_a_pinned_key_that_is_over_is_an_error(served: Models, tmp_path: Path) -> None:
    with sealed_gateway(served, tmp_path) as gateway:
        seal = Seal(gateway.line)
        for _ in range(2):
            gateway.clock.ahead_s += WEEK_S + 1
            gateway.keys.renew()
        with pytest.raises(SealError, match="key identifier unknown"):
            text(gateway.address(seal=seal))


def test_keys_are_fetched_sealed_alone(gateway: SealedGateway) -> None:
    head = RequestHead("GET", "http", "127.0.0.1", PATH)
    dated = replace(head, fields=(("date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),))
    answer = post(gateway, head=dated)
    assert answer.head is not None
    assert (answer.head.status, dict(answer.head.fields)["content-type"]) == (200, KEYS)
    assert answer.content == listed(gateway.keys.configurations)


def test_a_key_that_is_kept_shows_nowhere(gateway: SealedGateway) -> None:
    assert "private" not in repr(gateway.keys._keys)
    assert {oct(file.stat().st_mode & 0o777) for file in gateway.folder.glob("key-*")} == {"0o600"}


def test_errors_say_neither_prompt_nor_token(gateway: SealedGateway) -> None:
    with ReadingProxy(gateway.port, lambda whole: whole[:200]) as proxy, pytest.raises(LlmctlError) as caught:
        text(gateway.address(proxy.url))
    assert PROMPT not in repr(caught.value) and gateway.token not in repr(caught.value)
