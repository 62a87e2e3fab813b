"""A model hub on loopback, with a second port that plays the host it sends files from. A real server with switches.

    with FakeHub({"org/name": {"model.gguf": path_or_bytes}}) as hub:
        settings with hub_url=hub.url ...
        hub.switch(drop_after_bytes=1_000_000)      # until the next switch(); switch() alone sets all back
        hub.requests                                # what was asked of which of the two, in order

A file's answers are those of the real hub: HEAD on /org/name/resolve/<revision>/<file> tells X-Repo-Commit,
X-Linked-Size and X-Linked-Etag (the sha256) and redirects to the other port, which serves it with ranges.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK_BYTES = 64 << 10


@dataclass
class Switches:
    """What goes wrong. Numbers of bytes count from the start of the file."""

    ranges: bool = True  # otherwise a range request is answered 200 with everything
    hub_status: int | None = None  # the hub answers this to everything
    cdn_status: int | None = None  # the file host does
    times: int | None = None  # the statuses above and drop_after_bytes apply so many times, then no more
    error_code: str | None = None  # X-Error-Code beside the status
    error_message: str | None = None  # X-Error-Message
    retry_after: str | None = None
    drop_after_bytes: int | None = None  # the connection breaks when so many bytes of an answer's body were sent
    stall_after_bytes: int | None = None  # ... or nothing more comes
    bytes_per_s: int | None = None
    wrong_byte_at: int | None = None  # this byte of the file is another
    linked_bytes: int | None = None  # X-Linked-Size says this
    extra_bytes: int = 0  # the file host sends more than it should, without saying how much
    lengths: bool = True  # Content-Length; otherwise the end of the connection ends the body
    lie_about_range: int = 0  # Content-Range is off by this
    etag: str | None = None  # the file host's ETag
    encoding: str | None = None  # Content-Encoding
    lfs_headers: bool = True
    commit: bool = True  # X-Repo-Commit
    need_token: str | None = None  # the hub answers 401 without it
    redirect: str | None = None  # the hub redirects everything there


@dataclass(frozen=True)
class Asked:
    """``side`` is hub or cdn."""

    side: str
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)


class FakeHub:
    """``repos`` maps org/name to its files, each bytes or a path to them; a path is read while it is served."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes | Path]]) -> None:
        self.repos = repos
        self.requests: list[Asked] = []
        self.switches = Switches()
        self._lock = threading.Lock()
        self._sha256: dict[tuple[str, str], str] = {}
        self._hub = _server(self, "hub")
        self._cdn = _server(self, "cdn")
        self.url = f"http://127.0.0.1:{self._hub.server_address[1]}"
        self.cdn_url = f"http://127.0.0.1:{self._cdn.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self._hub, self._cdn):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.switches = Switches()  # lets a stalled answer go
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    def switch(self, **switches: object) -> None:
        """Sets these switches and all others back."""
        self.switches = Switches(**switches)  # type: ignore[arg-type]

    def sha256(self, repo: str, file: str) -> str:
        if (repo, file) not in self._sha256:
            content = self.repos[repo][file]
            raw = content if isinstance(content, bytes) else content.read_bytes()
            self._sha256[repo, file] = hashlib.sha256(raw).hexdigest()
        return self._sha256[repo, file]

    def size(self, repo: str, file: str) -> int:
        content = self.repos[repo][file]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self, repo: str, file: str, start: int, length: int) -> bytes:
        content = self.repos[repo][file]
        if isinstance(content, bytes):
            raw = content[start : start + length]
        else:
            with content.open("rb") as stream:
                stream.seek(start)
                raw = stream.read(length)
        at = self.switches.wrong_byte_at
        if at is not None and start <= at < start + len(raw):
            raw = raw[: at - start] + bytes([raw[at - start] ^ 1]) + raw[at - start + 1 :]
        return raw

    def count(self, side: str, method: str | None = None) -> int:
        return sum(one.side == side and method in (None, one.method) for one in self.requests)

    def still(self) -> bool:
        """Whether a switch that is limited in ``times`` applies to this request; counts it."""
        with self._lock:
            if self.switches.times is None:
                return True
            self.switches.times -= 1
            return self.switches.times >= 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: FakeHub
    side: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about."""


def _server(hub: FakeHub, side: str) -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = hub
    server.side = side
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, switches = self.server.hub, self.server.hub.switches
        hub.requests.append(Asked(self.server.side, self.command, self.path, dict(self.headers)))
        status = switches.hub_status if self.server.side == "hub" else switches.cdn_status
        if status is not None and hub.still():
            self._plain(status)
        elif self.server.side == "hub":
            self._as_hub(hub, switches)
        else:
            self._as_cdn(hub, switches)

    def _plain(self, status: int, **headers: str) -> None:
        switches = self.server.hub.switches
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if switches.error_code:
            self.send_header("X-Error-Code", switches.error_code)
        if switches.error_message:
            self.send_header("X-Error-Message", switches.error_message)
        if switches.retry_after:
            self.send_header("Retry-After", switches.retry_after)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _as_hub(self, hub: FakeHub, switches: Switches) -> None:
        if switches.redirect:
            return self._plain(302, Location=switches.redirect + self.path)
        if switches.need_token and self.headers.get("Authorization") != f"Bearer {switches.need_token}":
            return self._plain(401)
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", unquote(urlsplit(self.path).path))
        if match is None:
            return self._plain(200)
        repo, revision, file = match.groups()
        if repo not in hub.repos:
            return self._plain(404, **{"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self._plain(404, **{"X-Error-Code": "RevisionNotFound"})
        if file not in hub.repos[repo]:
            return self._plain(404, **{"X-Error-Code": "EntryNotFound"})
        headers = {"Location": f"{hub.cdn_url}/{quote(f'{repo}/{file}')}?signature=of-this-moment"}
        if switches.commit:
            headers["X-Repo-Commit"] = COMMIT
        if switches.lfs_headers:
            headers["X-Linked-Size"] = str(switches.linked_bytes or hub.size(repo, file))
            headers["X-Linked-Etag"] = f'"{hub.sha256(repo, file)}"'
        return self._plain(302, **headers)

    def _as_cdn(self, hub: FakeHub, switches: Switches) -> None:
        maker, name, file = unquote(urlsplit(self.path).path)[1:].split("/", 2)
        repo = f"{maker}/{name}"
        size = hub.size(repo, file)
        etag = switches.etag or f'"{hub.sha256(repo, file)[:32]}"'
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and switches.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(wanted[1])
            if start >= size:
                return self._plain(416, **{"Content-Range": f"bytes */{size}"})
            self.send_response(206)
            lie = start + switches.lie_about_range
            self.send_header("Content-Range", f"bytes {lie}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if switches.lengths and not switches.extra_bytes:
            self.send_header("Content-Length", str(size - start))
        else:
            self.send_header("Connection", "close")
        self.send_header("ETag", etag)
        if switches.encoding:
            self.send_header("Content-Encoding", switches.encoding)
        self.end_headers()
        if self.command == "GET":
            self._send(hub, switches, repo, file, start, size)
        return None

    def _send(self, hub: FakeHub, switches: Switches, repo: str, file: str, start: int, size: int) -> None:
        drop_after_bytes = switches.drop_after_bytes
        if drop_after_bytes is not None and not hub.still():
            drop_after_bytes = None
        sent, chunk_bytes = 0, CHUNK_BYTES
        if switches.bytes_per_s:
            chunk_bytes = max(1, switches.bytes_per_s // 50)
        while start + sent < size:
            limits = [
                chunk_bytes,
                *(limit - sent for limit in (drop_after_bytes, switches.stall_after_bytes) if limit is not None),
            ]
            piece = hub.read(repo, file, start + sent, min(limits))
            self.wfile.write(piece)
            sent += len(piece)
            if sent == drop_after_bytes:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if sent == switches.stall_after_bytes:
                while hub.switches is switches:
                    time.sleep(0.02)
                self.close_connection = True
                return
            if switches.bytes_per_s:
                time.sleep(len(piece) / switches.bytes_per_s)
        self.wfile.write(b"\0" * switches.extra_bytes)
