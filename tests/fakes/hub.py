"""A model hub on loopback, with a second port that plays the host it sends files from. A real server with switches.

    with FakeHub({"org/name": {"model.gguf": path_or_bytes}}) as hub:
        settings with hub_url=hub.url ...
        hub.switch(drop_after_bytes=1_000_000)      # until the next switch(); switch() alone sets all back
        hub.switch(answers=[{"cdn_status": 500}, {}, {"drop_after_bytes": 99}])    # one file answer after another
        hub.requests                                # what was asked of which of the two, in order
        hub.sent_bytes                              # of files

A file's answers are those of the real hub: HEAD on /org/name/resolve/<revision>/<file> tells X-Repo-Commit,
X-Linked-Size and X-Linked-Etag (the sha256) and redirects to the other port, which serves it with ranges. GET on
/api/models/org/name/revision/<revision> lists the files, on /api/models?search=… the repositories.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK_BYTES = 1 << 20


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
    bytes_per_s: int | None = None  # of every connection
    connections: int | None = None  # the file host answers 503 to more at once
    answers: list[dict[str, object]] = field(default_factory=list)  # switches for its next answers, one by one
    accept_ranges: str | None = "bytes"
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
    """``side`` is hub or cdn; ``at_s`` by the monotonic clock."""

    side: str
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    at_s: float = field(default_factory=time.monotonic, repr=False)


class FakeHub:
    """``repos`` maps org/name to its files, each bytes or a path to them; a path is read while it is served."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes | Path]]) -> None:
        self.repos = {repo: dict(files) for repo, files in repos.items()}
        self.licences: dict[str, str] = {}  # by repository
        self.requests: list[Asked] = []
        self.switches = Switches()
        self.sent_bytes = 0
        self.busy = self.most_busy = 0  # answers of the file host on their way, now and at most
        self.turned_away = 0  # by ``connections``
        self.opened: list[str] = []  # connections to hub and cdn
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

    def count(self, side: str, method: str | None = None) -> int:
        return sum(one.side == side and method in (None, one.method) for one in self.requests)

    def still(self, switches: Switches) -> bool:
        """Whether a switch that is limited in ``times`` applies to this request; counts it."""
        with self._lock:
            if switches.times is None:
                return True
            switches.times -= 1
            return switches.times >= 0

    def next_answer(self) -> Switches:
        """The switches for one answer of the file host."""
        with self._lock:
            answers = self.switches.answers
            return replace(self.switches, **answers.pop(0)) if answers else self.switches  # type: ignore[arg-type]

    def settle(self) -> None:
        """Returns when every answer of the file host has ended: those of clients that are gone take a moment."""
        until_s = time.monotonic() + 10
        while self.busy:
            assert time.monotonic() < until_s
            time.sleep(0.01)

    def begin(self) -> int:
        """Counts an answer of the file host. Returns how many there are now."""
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            return self.busy

    def end(self, sent_bytes: int) -> None:
        with self._lock:
            self.busy -= 1
            self.sent_bytes += sent_bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: FakeHub
    side: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about; all else would be a mistake in here."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _server(hub: FakeHub, side: str) -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = hub
    server.side = side
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    switches: Switches
    sent_bytes = 0

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def setup(self) -> None:
        super().setup()
        self.server.hub.opened.append(self.server.side)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, side = self.server.hub, self.server.side
        hub.requests.append(Asked(side, self.command, self.path, dict(self.headers)))
        self.switches = switches = hub.switches if side == "hub" else hub.next_answer()
        status = switches.hub_status if side == "hub" else switches.cdn_status
        if status is not None and hub.still(switches):
            self._plain(status)
        elif side == "hub":
            self._as_hub(hub, switches)
        else:
            self.sent_bytes = 0
            busy = hub.begin()
            try:
                if switches.connections is not None and busy > switches.connections:
                    hub.turned_away += 1
                    self._plain(503)
                else:
                    self._as_cdn(hub, switches)
            finally:
                hub.end(self.sent_bytes)

    def _plain(self, status: int, **headers: str) -> None:
        switches = self.switches
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
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models"):
            return self._as_api(hub, path)
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
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

    def _as_api(self, hub: FakeHub, path: str) -> None:
        """What a repository holds, and which repositories there are."""
        if path == "/api/models":
            return self._json([{"id": repo, "modelId": repo} for repo in hub.repos])
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path)
        if match is None or match[1] not in hub.repos:
            return self._plain(404, **{"X-Error-Code": "RepoNotFound"})
        if match[2] not in ("main", COMMIT):
            return self._plain(404, **{"X-Error-Code": "RevisionNotFound"})
        repo = match[1]
        siblings = [
            {
                "rfilename": file,
                "size": hub.size(repo, file),
                "lfs": {"sha256": hub.sha256(repo, file), "size": hub.size(repo, file), "pointerSize": 134},
            }
            for file in hub.repos[repo]
        ]
        card = {"license": hub.licences[repo]} if repo in hub.licences else {}
        return self._json({"id": repo, "sha": COMMIT, "cardData": card, "siblings": siblings})

    def _json(self, told: object) -> None:
        raw = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw)

    def _as_cdn(self, hub: FakeHub, switches: Switches) -> None:
        maker, name, file = unquote(urlsplit(self.path).path)[1:].split("/", 2)
        repo = f"{maker}/{name}"
        size = hub.size(repo, file)
        etag = switches.etag or f'"{hub.sha256(repo, file)[:32]}"'
        start, end = 0, size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and switches.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(wanted[1])
            end = min(size, int(wanted[2]) + 1) if wanted[2] else size
            if start >= size:
                return self._plain(416, **{"Content-Range": f"bytes */{size}"})
            self.send_response(206)
            lie = start + switches.lie_about_range
            self.send_header("Content-Range", f"bytes {lie}-{end - 1}/{size}")
        else:
            self.send_response(200)
        if switches.lengths and not switches.extra_bytes:
            self.send_header("Content-Length", str(end - start))
        else:
            self.send_header("Connection", "close")
        if switches.accept_ranges:
            self.send_header("Accept-Ranges", switches.accept_ranges)
        self.send_header("ETag", etag)
        if switches.encoding:
            self.send_header("Content-Encoding", switches.encoding)
        self.end_headers()
        if self.command == "GET":
            self._send(hub, switches, repo, file, start, end)
        return None

    def _send(self, hub: FakeHub, switches: Switches, repo: str, file: str, start: int, end: int) -> None:
        drop_after_bytes = switches.drop_after_bytes
        if drop_after_bytes is not None and not hub.still(switches):
            drop_after_bytes = None
        chunk_bytes = CHUNK_BYTES if switches.bytes_per_s is None else max(1, switches.bytes_per_s // 50)
        stops = [stop for stop in (drop_after_bytes, switches.stall_after_bytes) if stop is not None]
        begun_s = time.monotonic()
        with _Content(hub.repos[repo][file], switches.wrong_byte_at) as content:
            while start + self.sent_bytes < end:
                limits = [chunk_bytes, end - start - self.sent_bytes, *(stop - self.sent_bytes for stop in stops)]
                self.sent_bytes += content.send(self.connection, start + self.sent_bytes, min(limits))
                if self.sent_bytes == drop_after_bytes:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if self.sent_bytes == switches.stall_after_bytes:
                    self._stall(hub)
                    return
                if switches.bytes_per_s:
                    time.sleep(max(0.0, begun_s + self.sent_bytes / switches.bytes_per_s - time.monotonic()))
        self.wfile.write(b"\0" * switches.extra_bytes)

    def _stall(self, hub: FakeHub) -> None:
        """Until the next switch, or the client has had enough."""
        switches = hub.switches
        self.connection.settimeout(0.02)
        while hub.switches is switches:
            try:
                if not self.connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.close_connection = True


class _Content:
    """The bytes of a file, sent as fast as the system can. One of them may be wrong."""

    def __init__(self, content: bytes | Path, wrong_byte_at: int | None) -> None:
        self._content = content
        self._wrong_byte_at = wrong_byte_at

    def __enter__(self) -> Self:
        self._file = self._content.open("rb") if isinstance(self._content, Path) else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def send(self, connection: socket.socket, at: int, count: int) -> int:
        """Sends at most ``count`` bytes from ``at`` on. Returns how many."""
        wrong = self._wrong_byte_at is not None and at <= self._wrong_byte_at < at + count
        if self._file is not None and not wrong:
            return os.sendfile(connection.fileno(), self._file.fileno(), at, count)
        if self._file is not None:
            raw = os.pread(self._file.fileno(), count, at)
        else:
            assert isinstance(self._content, bytes)
            raw = self._content[at : at + count]
        if wrong:
            flaw = (self._wrong_byte_at or 0) - at
            raw = raw[:flaw] + bytes([raw[flaw] ^ 1]) + raw[flaw + 1 :]
        connection.sendall(raw)
        return len(raw)
