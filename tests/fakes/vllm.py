"""A program that behaves like vLLM's OpenAI server at a UNIX socket, with a helper of its own as vLLM has, and writes
down how it was started.

    program = fake_vllm(folder, dies="load")
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

ROOT = Path(__file__).parents[2]
OPTIONS = ROOT / "tests" / "fixtures" / "vllm" / "0.32.0.txt"
SWITCHES = ("disable_uvicorn_access_log",)
WORDS = ("By", " vLLM", ".")


def fake_vllm(folder: Path, *, dies: str = "") -> Path:
    """``dies``: at "load" with a message, or when it "answers", after the first word."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "vllm"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.fakes.vllm import main\nmain({dies!r})\n"
    )
    program.chmod(0o755)
    return program


def started(program: Path) -> dict[str, Any]:
    """Of its last start ``argv``, ``environment``, ``pid`` and ``helper``, a process that it has started."""
    record: dict[str, Any] = json.loads(program.with_name("record.json").read_text())
    return record


def main(dies: str) -> None:
    given = _options()
    helper = subprocess.Popen(["sleep", "600"])
    record = {"argv": sys.argv[1:], "environment": dict(os.environ), "pid": os.getpid(), "helper": helper.pid}
    Path(sys.argv[0]).with_name("record.json").write_text(json.dumps(record))
    if dies == "load":
        print("ValueError: No available memory for the cache blocks.", file=sys.stderr, flush=True)
        os._exit(1)
    server = _Server(given.uds, _Handler)
    server.dies = dies == "answers"
    server.serve_forever(poll_interval=0.01)


def _options() -> argparse.Namespace:
    """Strict as the real one: an option that it doesn't know is an error."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model_tag")
    for name in OPTIONS.read_text().split("\n")[1:]:
        option = f"--{name.replace('_', '-')}"
        if name in SWITCHES:
            parser.add_argument(option, action="store_true")
        elif name:
            parser.add_argument(option)
    return parser.parse_args()


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    dies = False


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "a socket has none"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._json(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize" and "messages" in body:
            self._json(200, {"count": 7, "max_model_len": 99, "tokens": [1] * 7})
        elif self.path != "/v1/chat/completions":
            self._json(404, {"detail": "Not Found"})
        elif body.get("stream"):
            self._stream()
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": len(WORDS)}
            self._json(200, {"model": body["model"], "choices": [choice], "usage": usage})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in WORDS:
            self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if self.server.dies:
                os._exit(1)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: %b\n\n" % json.dumps(event).encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any]) -> None:
        page = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
