"""Servers that mean no good, as replies of ``ChatServer``: endless, trickling, stalled, bombed.

    with ChatServer(HOSTILE["trickling headers"]) as server: ...

Each goes on until the client hangs up. ``PAUSE_S`` is between two bytes of what trickles.
"""

from __future__ import annotations

import time
import zlib

from tests.fakes.chat_server import Handler, Reply

PAUSE_S = 0.05
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def raw(*parts: bytes, again: bytes = b"", pause_s: float = 0.0) -> Reply:
    """Sends ``parts``, then ``again`` for ever, if anything, else nothing more until the client hangs up."""

    def reply(handler: Handler) -> None:
        handler.close_connection = True
        handler.connection.settimeout(2)
        for part in parts:
            handler.wfile.write(part)
        while again:
            handler.wfile.write(again)
            time.sleep(pause_s)
        handler.rfile.read(1)

    return reply


def closed(*parts: bytes) -> Reply:
    """Sends ``parts`` and closes."""

    def reply(handler: Handler) -> None:
        handler.close_connection = True
        for part in parts:
            handler.wfile.write(part)

    return reply


def redirect(handler: Handler) -> None:
    """To itself, with a body that never ends."""
    handler.close_connection = True
    handler.wfile.write(f"HTTP/1.1 302 Found\r\nLocation: {handler.path}\r\n\r\n".encode())
    while True:
        handler.wfile.write(bytes(1 << 16))


def bomb(content: bytes) -> Reply:
    """``content`` for ever, compressed a thousandfold."""

    def reply(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(STREAM + b"Content-Encoding: gzip\r\n\r\n")
        compress = zlib.compressobj(9, wbits=31)
        block = content * ((1 << 20) // len(content))
        while True:
            handler.wfile.write(compress.compress(block))

    return reply


def echo_of_the_key(handler: Handler) -> None:
    """A status line that holds the key and drives a terminal."""
    handler.close_connection = True
    key = (handler.headers.get("Authorization") or "").encode()
    handler.wfile.write(b"HTTP/1.1 \x1b[2J" + key + b"\xe2\x80\xae" + b"x" * 300 + b"\r\n\r\n")


CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"

HOSTILE: dict[str, Reply] = {
    "endless body": raw(STREAM, b"\r\n", again=b"x" * (1 << 16)),
    "endless headers": raw(STREAM, again=b"X-More: " + b"y" * 1000 + b"\r\n"),
    "one endless header": raw(STREAM, b"X: ", again=b"y" * (1 << 16)),
    "trickling headers": raw(STREAM, b"X: ", again=b"y", pause_s=PAUSE_S),
    "trickling body": raw(STREAM, b"\r\n", again=b"x", pause_s=PAUSE_S),
    "stalled": raw(STREAM, b"Content-Length: 1000\r\n\r\n"),
    "silent": raw(),
    "bomb": bomb(b"x"),
    "bomb of blank lines": bomb(b"\n"),
    "redirects to itself": redirect,
    "broken chunks": raw(CHUNKED, b"zz\r\nx\r\n"),
    "trickling chunk size": raw(CHUNKED, again=b"0", pause_s=PAUSE_S),
    "endless trailers": raw(CHUNKED, b"0\r\n", again=b"X: y\r\n"),
    "redirects to no UTF-8": closed(b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n"),
    "redirects to no host": closed(b"HTTP/1.1 302 Found\r\nLocation: http://a..b/\r\nContent-Length: 0\r\n\r\n"),
    "redirects to no port": closed(b"HTTP/1.1 302 Found\r\nLocation: http://a:x/\r\nContent-Length: 0\r\n\r\n"),
    "pings": raw(STREAM, b"\r\n", again=b": ping\n\n", pause_s=PAUSE_S),
    "flood of pings": raw(STREAM, b"\r\n", again=b": ping\n\n" * 4096),
    "flood of events": raw(STREAM, b"\r\n", again=b'data: {"choices": [{"delta": {"content": ""}}]}\n\n' * 1024),
    "flood of words": raw(STREAM, b"\r\n", again=b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n' * 1024),
    "continue for ever": raw(again=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "odd status line": echo_of_the_key,
    "nothing but noise": closed(bytes(range(256)) * 8),
    "encoded oddly": closed(STREAM, b"Content-Encoding: \x1b[2Jzstd\r\n\r\nxx"),
    "broken gzip": closed(STREAM, b"Content-Encoding: gzip\r\n\r\n\x1f\x8bnothing of the kind"),
    "refusal that stalls": raw(b"HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n{"),
    "failure that stalls": raw(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n{"),
    "refusal that never ends": raw(b"HTTP/1.1 400 No\r\n\r\n", again=b"x" * (1 << 16)),
    "asks for an age": closed(b"HTTP/1.1 429 No\r\nRetry-After: 9999999999999999999\r\nContent-Length: 0\r\n\r\n"),
}
