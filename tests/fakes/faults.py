"""What may go wrong between a prompt and a server of the user's, a row each: how the server behaves, and what is to
come of it where it is the only one. Where another stands behind it, that one answers, unless words have come before.

    with served(fault, certificates, elsewhere="http://127.0.0.1:1/") as office:
        office.url, office.lines, office.server
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests.fakes.chat_server import (
    DONE,
    ChatServer,
    Handler,
    Reply,
    broken_off,
    data,
    drop,
    event,
    silence,
    status,
    stream,
    until_closed,
)
from tests.fakes.hostile import HOSTILE, STREAM, closed, raw

QUICK = "connect_s = 0.2\nfirst_token_s = 0.4\nbetween_s = 0.4\nsilent_s = 0.4\n"
END = (event(finish="stop"), DONE)
HELLO = stream(event("Hello"), *END)
NETWORK, REFUSED, ACCESS, NOT_FOUND, CONFIG, POLICY, TOO_LONG = 5, 8, 9, 4, 10, 11, 2
ANOTHER_PIN = f'pin = "sha256:{"0" * 64}"\n'


@dataclass(frozen=True)
class Fault:
    """``code``, ``says`` (on stderr) and ``text`` (on stdout) are those of the server alone; ``sent``: whether a prompt
    comes there. ``lines`` stand in its table, ``tls`` names a certificate, ``at`` a place other than a server on
    127.0.0.1; ``slow``: it takes seconds."""

    name: str
    reply: Reply
    code: int = 0
    says: str = ""
    text: str = ""
    sent: bool = True
    lines: str = ""
    tls: str = ""
    at: str = ""
    slow: bool = False

    @property
    def is_answered(self) -> bool:
        return not self.code

    @property
    def is_partial(self) -> bool:
        return bool(self.code and self.text)


def fine(name: str, *segments: bytes, text: str = "Hello") -> Fault:
    return Fault(name, stream(*segments), text=text)


def error(name: str, code: int, says: str, reply: Reply, **more: object) -> Fault:
    return Fault(name, reply, code, says, **more)  # type: ignore[arg-type]


def said(code: int, words: str, **headers: str) -> Reply:
    return status(code, {"error": {"message": words}}, **headers)


def reset(handler: Handler) -> None:
    """Words, then the connection is reset."""
    handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
    handler.chunk(event("Hel"))
    time.sleep(0.05)  # or what was sent is lost with it
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def stalls(*segments: bytes) -> Reply:
    def reply(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        for segment in segments:
            handler.chunk(segment)
        silence(handler)

    return reply


def late(handler: Handler) -> None:
    """It takes its time to look at a connection that the system has accepted."""
    time.sleep(0.2)
    HELLO(handler)


def zipped(handler: Handler) -> None:
    body = gzip.compress(b"".join((event("Hello"), *END)))
    handler.head(200, Content_Type="text/event-stream", Content_Encoding="gzip", Content_Length=str(len(body)))
    handler.wfile.write(body)


WHOLE = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
CALL = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "add", "arguments": "{}"}}]}
FILTERED = data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
USED = data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
WRONG = data({"error": {"message": "out of pages"}})
HTTP_10 = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
SIZES = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"".join((event("Hello"), *END))
ODD_CHUNKS = (SIZES, b"%X;name=value\r\n" % len(BODY), BODY, b"\r\n0\r\nX-Trailer: y\r\n\r\n")
CRLF = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\r\n\r\n'
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
OTHER_HOST = status(302, None, Location="ELSEWHERE")

FAULTS: tuple[Fault, ...] = (
    # no connection, or nothing on it
    error("refused", NETWORK, "Connection refused", HELLO, sent=False, at="refused"),
    error("black hole", NETWORK, "did not answer in time", HELLO, sent=False, at="black hole", lines=QUICK),
    Fault("slow accept", late, text="Hello"),
    Fault("IPv6 only", HELLO, text="Hello", at="IPv6"),
    error("closed at once", NETWORK, "broke the connection", drop),
    error("slow headers", NETWORK, "did not answer in time", HOSTILE["trickling headers"], lines=QUICK),
    error("no headers", NETWORK, "did not answer in time", HOSTILE["silent"], lines=QUICK),
    error("what is not HTTP", NETWORK, "is not HTTP", HOSTILE["nothing but noise"]),
    # broken answers
    error("reset in the middle", NETWORK, "broke off in the middle", reset, text="Hel"),
    error("stall before a word", NETWORK, "not a byte in 0.3 s", stalls(), lines="silent_s = 0.3\n"),
    error("stall in the middle", NETWORK, "no word for 0.4 s", stalls(event("Hel")), lines=QUICK, text="Hel"),
    error("keep-alives for ever", NETWORK, "no word of an answer", HOSTILE["pings"], lines=QUICK),
    error("half an event", NETWORK, "broke off", broken_off(event("Hel"), b'data: {"choi'), text="Hel"),
    error("broken off before a word", NETWORK, "broke off", broken_off(b": wait\n\n")),
    error("a line without end", NETWORK, "bytes", raw(STREAM, b"\r\ndata: ", again=b"x" * (1 << 20))),
    error("gzip bomb", NETWORK, "bytes", HOSTILE["bomb"]),
    error("broken gzip", NETWORK, "broken", HOSTILE["broken gzip"]),
    error("broken chunks", NETWORK, "broke off", HOSTILE["broken chunks"]),
    error("wrong content type", NETWORK, "no answer that can be read", stream(b"<html>", content_type="text/html")),
    error("an error in the stream", REFUSED, "out of pages", stream(WRONG)),
    error("an error in the middle", REFUSED, "out of pages", stream(event("Hel"), WRONG), text="Hel"),
    error("an error as finish reason", REFUSED, "error", stream(event(finish="error"))),
    # refusals
    error("400", REFUSED, "no such field", said(400, "no such field in it")),
    error("401", ACCESS, "wants a key (401)", said(401, "who are you")),
    error("402", ACCESS, "wants to be paid", said(402, "no credit")),
    error("403", ACCESS, "refused access (403)", said(403, "no")),
    error("404 model", NOT_FOUND, "no such model", said(404, "the model m does not exist")),
    error("413", TOO_LONG, "longer than the context", status(413)),
    error("422", REFUSED, "refused the request (422)", said(422, "no")),
    error("context", TOO_LONG, "maximum context length", said(400, "maximum context length is 10 tokens")),
    error("429", NETWORK, "answered 429", said(429, "too many")),
    error("429 for an hour", NETWORK, "answered 429", said(429, "too many", Retry_After="3600")),
    error("429 until a date", NETWORK, "answered 429", said(429, "x", Retry_After="Wed, 01 Jan 2098 00:00:00 GMT")),
    error("500", NETWORK, "answered 500", said(500, "oops")),
    error("502", NETWORK, "answered 502", status(502, b"<html><title>Bad Gateway</title>")),
    error("503 loading", NETWORK, "Loading model", said(503, "Loading model")),
    error("a refusal that stalls", ACCESS, "(401)", HOSTILE["refusal that stalls"], slow=True),
    error("redirect to another host", NOT_FOUND, "a prompt goes only where you said", OTHER_HOST),
    # who answers
    error("expired certificate", NETWORK, "certificate has expired", HELLO, sent=False, tls="expired"),
    error("unknown authority", NETWORK, "could not be verified", HELLO, sent=False, tls="unknown"),
    error("wrong name", NETWORK, "could not be verified", HELLO, sent=False, tls="wrong name"),
    error("another key than the pin", NETWORK, "not the one that is pinned", HELLO, sent=False, tls="pin"),
    Fault("a good certificate", HELLO, text="Hello", tls="good"),
    error("https where http is spoken", NETWORK, "TLS", HELLO, sent=False, at="http as https"),
    error("http to another machine", POLICY, "readable by anyone", HELLO, sent=False, at="another machine"),
    error("the key is missing", ACCESS, "NOT_SET", HELLO, sent=False, lines='key_env = "NOT_SET"\n'),
    error("no context for it", TOO_LONG, "the context of office is 1", HELLO, sent=False, lines="context = 1\n"),
    # servers as they are
    fine("reasoning_content", event(reasoning_content="hm"), event("Hello"), *END),
    fine("reasoning", event(reasoning="hm"), event("Hello"), *END),
    fine("null and missing content", event(role="assistant"), event(None), data({}), event("Hello"), *END),
    fine("role alone", event(role="assistant"), event("Hello"), *END),
    fine("usage in the last chunk", event("Hello"), event(finish="stop"), USED, DONE),
    fine("data without a blank", event("Hello").replace(b"data: ", b"data:"), *END),
    fine("CRLF", CRLF, *END),
    fine("comments", b": OPENROUTER PROCESSING\n\n", event("Hello"), b": wait\n\n", *END),
    fine("Azure's first chunk", FILTERED, event("Hello"), *END),
    fine("a list of parts", event(PARTS), *END),
    fine("a call of a tool", event(**CALL), event(finish="tool_calls"), DONE, text=""),
    fine("finished without an end mark", event("Hello"), event(finish="stop")),
    Fault("plain JSON", status(200, WHOLE), text="Hello"),
    Fault("HTTP/1.0", closed(HTTP_10, BODY), text="Hello"),
    Fault("until it is closed", until_closed(BODY), text="Hello"),
    Fault("gzip", zipped, text="Hello"),
    Fault("odd chunks", closed(*ODD_CHUNKS), text="Hello"),
)


@dataclass(frozen=True)
class Certificates:
    """Of a CA that a file vouches for, and of one that nobody knows."""

    ca_file: Path
    contexts: dict[str, ssl.SSLContext]

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        known, unknown = trustme.CA(), trustme.CA()
        file = folder / "ca.pem"
        known.cert_pem.write_to_path(str(file))
        yesterday = datetime.now(UTC) - timedelta(days=1)
        made = {
            "good": known.issue_cert("127.0.0.1"),
            "pin": known.issue_cert("127.0.0.1"),
            "expired": known.issue_cert("127.0.0.1", not_after=yesterday),
            "wrong name": known.issue_cert("llm.example"),
            "unknown": unknown.issue_cert("127.0.0.1"),
        }
        contexts = {}
        for name, certificate in made.items():
            contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(contexts[name])
        return cls(file, contexts)


@dataclass(frozen=True)
class Office:
    """The endpoint's address, what else stands in its table, and the server, if there is one."""

    url: str
    lines: str
    server: ChatServer | None = None

    @property
    def table(self) -> str:
        return f'[endpoints.office]\nurl = "{self.url}"\nmodel = "m"\n{self.lines}'


@contextmanager
def served(fault: Fault, certificates: Certificates, elsewhere: str) -> Iterator[Office]:
    """The server of ``fault``, which redirects, if it does, to the address ``elsewhere``."""
    if fault.at in ("refused", "black hole"):
        with _nobody(fault.at) as url:
            yield Office(url, fault.lines)
        return
    reply = status(302, None, Location=elsewhere) if fault.reply is OTHER_HOST else fault.reply
    tls = certificates.contexts[fault.tls] if fault.tls else None
    lines = fault.lines + (f'ca_file = "{certificates.ca_file}"\n' if fault.tls else "")
    lines += ANOTHER_PIN if fault.tls == "pin" else ""
    with ChatServer(reply, tls=tls, host="::1" if fault.at == "IPv6" else "127.0.0.1") as server:
        url = server.url.replace("http:", "https:") if fault.at == "http as https" else server.url
        yield Office("http://192.0.2.1/v1" if fault.at == "another machine" else url, lines, server)


@contextmanager
def _nobody(kind: str) -> Iterator[str]:
    """An address where nobody listens, or whose queue is full, so that the system drops what comes."""
    with socket.socket() as bound, socket.socket() as first, socket.socket() as second:
        bound.bind(("127.0.0.1", 0))
        if kind == "black hole":
            bound.listen(0)
            for waiting in (first, second):
                waiting.setblocking(False)
                waiting.connect_ex(bound.getsockname())
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
