"""A program that behaves like llama-server, and writes down how it was started and what it was asked.

server = fake_server(folder, Behaviour(dies_at="load", signal=signal.SIGSEGV))
fit = replace(fit_for(model), server=server.native)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the program, which is started often, needs nothing of llmctl
    from llmctl.types.engine import NativeServer

ROOT = Path(__file__).parents[2]
VERSION = "version: 9.8.7 (build 1234, commit abcdef0)\nbuilt with a compiler"
ANSWER = ("The", " answer")
VALUED = (
    "model alias threads threads-batch ctx-size parallel batch-size ubatch-size cache-type-k cache-type-v flash-attn"
)
VALUED += (
    " n-gpu-layers split-mode main-gpu tensor-split n-cpu-moe fit chat-template host port cors-origins cache-ram device"
)
VALUED += " api-key-file"
SWITCHES = (
    "swa-full no-repack no-context-shift no-kv-unified no-mmproj no-warmup jinja no-webui no-slots log-disable offline"
)

PROGRAM = f"""\
#!{{python}}
import sys
if sys.argv[1:] == ["--version"]:  # asked for more often than anything else: without an import
    print({VERSION!r}, file=sys.stderr)
elif sys.argv[1:] == ["--list-devices"]:
    print({{devices!r}})
else:
    import json
    sys.path.insert(0, {{root!r}})
    from tests.fakes.llama_server import main
    main(**json.loads({{behaviour!r}}))
"""


@dataclass(frozen=True)
class Behaviour:
    """``dies_at``: "load", or "answer" after the first word, by ``signal``, or with exit code 1 for 0. ``says`` is what
    it logs then. With ``fails`` it computes no answer. It logs every prompt on stderr, whatever it was told."""

    loads_s: float = 0.0
    dies_at: str = ""
    signal: int = 0
    says: str = ""
    devices: tuple[str, ...] = ()
    fails: bool = False


@dataclass(frozen=True)
class FakeServer:
    program: Path

    @property
    def native(self) -> NativeServer:
        from llmctl.types.engine import NativeServer, ServerSource

        return NativeServer(str(self.program), ServerSource.PATH, "llama-server 9.8.7", 1)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Of each start ``pid``, ``argv``, ``environment``, ``key`` and what the options say."""
        return [entry["start"] for entry in self._entries() if "start" in entry]

    @property
    def headers(self) -> list[dict[str, str]]:
        return [entry["headers"] for entry in self._entries() if "headers" in entry]

    def _entries(self) -> list[dict[str, Any]]:
        record = _record(self.program)
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def _record(program: Path) -> Path:
    return program.with_name("record.jsonl")


def fake_server(folder: Path, behaviour: Behaviour = Behaviour()) -> FakeServer:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "llama-server"
    devices = "\n".join(("Available devices:", *(behaviour.devices or ("  (none)",))))
    program.write_text(
        PROGRAM.format(python=sys.executable, root=str(ROOT), devices=devices, behaviour=json.dumps(asdict(behaviour)))
    )
    program.chmod(0o755)
    return FakeServer(program)


def main(**behaviour: Any) -> None:
    serve(Behaviour(**behaviour), options())


def options() -> argparse.Namespace:
    """Strict as the real one: an option that it doesn't know is an error."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in VALUED.split():
        parser.add_argument(f"--{name}")
    for name in SWITCHES.split():
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def serve(behaves: Behaviour, given: argparse.Namespace) -> None:
    key = Path(given.api_key_file).read_text().strip()
    start = {"pid": os.getpid(), "argv": sys.argv[1:], "environment": dict(os.environ), "key": key, **vars(given)}
    write({"start": start})
    print("warning: this is told even with the log off", file=sys.stderr, flush=True)
    if behaves.dies_at == "load":
        die(behaves, is_logging=not given.log_disable)
    server = Server((given.host, int(given.port)), Handler)
    server.behaves, server.key, server.ready_at_s = behaves, key, time.monotonic() + behaves.loads_s
    server.serve_forever()


def write(entry: dict[str, Any]) -> None:
    with _record(Path(sys.argv[0])).open("a") as record:
        record.write(json.dumps(entry) + "\n")


def die(behaves: Behaviour, *, is_logging: bool) -> None:
    if behaves.says and is_logging:
        print(behaves.says, file=sys.stderr, flush=True)
    if behaves.signal:
        os.kill(os.getpid(), behaves.signal)
        time.sleep(60)
    os._exit(1)


class Server(ThreadingHTTPServer):
    behaves: Behaviour
    key: str
    ready_at_s: float


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        is_ready = time.monotonic() >= self.server.ready_at_s
        if self.path == "/health":
            self._json(200 if is_ready else 503, {"status": "ok"})
        elif self._is_allowed():
            self._json(200, {"data": [{"id": "model"}]})

    def do_POST(self) -> None:
        if not self._is_allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        write({"headers": dict(self.headers)})
        print("GGML: prompt", body["messages"], file=sys.stderr, flush=True)
        if self.server.behaves.fails:
            self._json(500, {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in ANSWER:
            self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if self.server.behaves.dies_at == "answer":
                die(self.server.behaves, is_logging=True)
        usage = {"prompt_tokens": 3, "completion_tokens": len(ANSWER)}
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: %b\n\n" % json.dumps(event).encode())
        self.wfile.flush()

    def _is_allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self._json(401, {"error": {"message": "Invalid API Key"}})
        return False

    def _json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
