"""The child process: llama.cpp behind an OpenAI-compatible address on loopback.

Runs as ``python -m llmctl.engine.llama_cpp.worker PID``, with the number of the process that has started it. The job
arrives as one JSON line on stdin (so the token is never in argv or environment), the answer leaves as one on stdout:
``{"ready": {...}}``, ``{"missing": ...}``, ``{"no_port": ...}`` or ``{"failed": ..., "log": [...]}``, and before it
maybe ``{"progress": ...}``, the share that is loaded. When the parent is gone, so is the worker: the kernel ends it
(Linux), and its stdin closes.

It serves whoever its parent gives the token. The standard library's HTTP server does for that: it starts in
milliseconds, and its threads wait while one thread computes for all requests (``batching``). The gateway for other
programs is a different thing.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from llmctl import child
from llmctl.confinement import Confinement, NetworkAccess, confine
from llmctl.engine import binding
from llmctl.engine.llama_cpp import embedding, request, rerank, text_completion, tokens
from llmctl.engine.llama_cpp.batching import BusyError
from llmctl.engine.llama_cpp.completion import ClientGoneError
from llmctl.engine.llama_cpp.context import DecodeError
from llmctl.engine.llama_cpp.idle import Stay
from llmctl.engine.llama_cpp.native_log import NativeLog, tell_crashes
from llmctl.engine.llama_cpp.refused import RefusedError, error_body
from llmctl.engine.llama_cpp.request import WritingRequest
from llmctl.engine.llama_cpp.wire import whole, with_choices
from llmctl.struct import asdict

if TYPE_CHECKING:
    from llmctl.engine.llama_cpp.model import LoadedModel

BODY_LIMIT_BYTES = 64 << 20
Join = Callable[[Iterable[Mapping[str, Any]]], dict[str, Any]]
SWITCH_S = 0.0005  # that the thread which computes waits at most for one that writes to its client


class Handler(BaseHTTPRequestHandler):
    """One client's requests to the server's model, for whoever brings the server's token."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a piece must not wait until the one before it was acknowledged
    timeout = 600
    _started = False

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: paths and bodies are the user's business."""

    def do_GET(self) -> None:
        if not self._allowed():
            return
        model = {"id": self.server.model.name, "object": "model", "created": self.server.created, "owned_by": "llmctl"}
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [model]})
        elif self.path == "/v1/privacy":
            self._json(200, asdict(self.server.confinement))
        elif unquote(self.path) == f"/v1/models/{self.server.model.name}":
            self._json(200, model)
        else:
            self._not_found()

    def do_POST(self) -> None:
        if not self._allowed():
            return
        try:
            with self.server.in_use():
                self._answer(self.path, self.server.model)
        except RefusedError as error:
            self._json(error.status, error.body)
        except DecodeError as error:
            self._json(500, error_body(500, "decoding", f"decoding failed: {error}"))

    def _answer(self, path: str, model: LoadedModel) -> None:
        """Raises RefusedError, DecodeError."""
        match path:
            case "/v1/chat/completions":
                asked = request.read(self._body())
                self._stream(asked, model.stream(asked, self._is_gone), whole)
            case "/v1/chat/completions/input_tokens":
                self._json(200, {"input_tokens": model.length(request.read(self._body()))})
            case "/v1/completions":
                text = text_completion.read(self._body())
                self._stream(text, model.go_on(text, self._is_gone), text_completion.joined)
            case "/v1/embeddings":
                self._json(200, embedding.answer(embedding.read(self._body()), model.pooled, model.name))
            case "/v1/rerank":
                self._json(200, rerank.answer(rerank.read(self._body()), model.reranker, model.name))
            case "/tokenize":
                self._json(200, tokens.tokenized(tokens.read_text(self._body()), model.vocabulary))
            case "/detokenize":
                self._json(200, tokens.detokenized(tokens.read_tokens(self._body()), model.vocabulary))
            case _:
                self._not_found()

    def _not_found(self) -> None:
        self._json(404, error_body(404, "not_found", f"there is nothing at {self.path!a:.200}"))

    def _body(self) -> bytes:
        """Raises RefusedError for a body of unknown length, or of too much."""
        length = self.headers.get("Content-Length", "")
        if length.isdecimal() and len(length) < 20 and int(length) <= BODY_LIMIT_BYTES:
            return self.rfile.read(int(length))
        self.close_connection = True
        raise RefusedError(
            400, "invalid_request", f"Content-Length must be given, of {BODY_LIMIT_BYTES:,} bytes at most"
        )

    def _stream(self, asked: WritingRequest, answer: Generator[dict[str, Any], None, None], join: Join) -> None:
        """Server-sent events, or one document of all of them. The status line waits for the first chunk, so that a
        refusal has its own."""
        try:
            with closing(answer) as chunks:
                if not asked.streams:
                    self._json(200, join(chunks))
                    return
                for chunk in chunks if asked.wants_usage else with_choices(chunks):
                    self._start()
                    self._event(json.dumps(chunk))
            self._event("[DONE]")
            self._end()
        except RefusedError as error:
            self._json(error.status, error.body)
        except BusyError as error:
            self._json(429, error_body(429, "busy", str(error)), {"Retry-After": str(error.retry_after_s)})
        except (BrokenPipeError, ConnectionResetError, ClientGoneError):
            self.close_connection = True
        except Exception as error:  # noqa: BLE001  # whatever decoding raises is told where the client listens
            self.close_connection = True
            body = error_body(500, "decoding", f"decoding failed: {error}")
            if not self._started:
                self._json(500, body)
                return
            self._event(json.dumps(body))
            self._end()

    def _is_gone(self) -> bool:
        """Whether the client has closed its side of the connection."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _end(self) -> None:
        self._started = False  # another request may follow
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            return True
        self.close_connection = True
        self._json(401, error_body(401, "unauthorized", "wrong token"))
        return False

    def _json(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Listens on a port of loopback that the system chooses. ``in_use`` lasts as long as a request."""

    confinement: Confinement

    request_queue_size = 128  # connections that may wait to be accepted: with 5, as is the default, some wait a second

    def __init__(
        self, model: LoadedModel, token: str, in_use: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.token, self.in_use = model, token, in_use
        self.created = int(time.time())

    def handle_error(self, request: object, client_address: object) -> None:
        """Where it happened, without what was asked: the log is on the disk."""
        sys.excepthook(*sys.exc_info())


def main() -> int:
    child.end_with_parent(int(sys.argv[1]))
    tell_crashes()
    # Whatever a library prints on stdout must not get between our lines.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        binding.functions_only()  # before the job comes: the parent is still planning

        from llmctl.engine.llama_cpp.model import LoadedModel
        from llmctl.engine.llama_cpp.template import Renderer
    except (ImportError, OSError, RuntimeError) as error:
        say({"missing": str(error)})
        return 1
    renderer = Renderer()
    line = sys.stdin.readline()
    if not line:
        return 0
    job = json.loads(line)
    stay = Stay(job.get("entry_file"), job["log"])

    def leave_with_the_parent() -> None:
        sys.stdin.read()
        if not stay.has_begun:
            os._exit(0)

    threading.Thread(target=leave_with_the_parent, daemon=True).start()
    log = NativeLog()
    log.listen()
    try:
        model = LoadedModel(job, renderer, lambda share: say({"progress": round(share, 3)}), log)
    except Exception as error:  # noqa: BLE001  # whatever llama-cpp-python raises is told, not thrown
        say({"failed": str(error) or type(error).__name__, "log": list(log.errors)})
        return 1
    log.loaded()
    sys.setswitchinterval(SWITCH_S)
    try:
        server = Server(model, job["token"], stay.in_use)
    except OSError as error:
        say({"no_port": error.strerror or str(error)})
        return 1
    # Here, where the engine has what it needs of the system and has heard nothing yet.
    server.confinement = confine(network=NetworkAccess.NOTHING_NEW, lock_memory=job.get("lock_memory", False))
    ready = {"port": server.server_address[1], "chat_template": model.has_chat_template, "build": model.build}
    say({"ready": ready})
    stay.begin(ready, channel)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
