"""The child process: llama.cpp behind an OpenAI-compatible address on loopback.

Runs as ``python -m llmctl.engine.worker``. The job arrives as one JSON line on stdin (so the token is never in argv
or the environment), the answer leaves as one JSON line on stdout: ``{"ready": {...}}``, ``{"missing": ...}`` or
``{"failed": ..., "log": [...]}``. When stdin closes, the parent is gone and so is the worker.

It serves one client, its parent. The standard library's HTTP server does for that: it starts in milliseconds, and
the thread that decodes writes each piece to the socket itself, which keeps decoding at llama.cpp's own speed. The
gateway for other programs is a different thing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hmac
import io
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY_LIMIT_BYTES = 64 << 20
BATCH = 512  # tokens that are handed over at once: the binding's own number
# Tokens that come faster than this go out together: nobody reads faster, and each time the reader wakes up it takes a
# core from threads that wait for each other at every layer.
TOGETHER_S = 0.03
GGML_LOG_LEVEL_ERROR = 4  # ggml.h, enum ggml_log_level
# What a request may set, and what the engine's C functions take without complaint.
OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "max_tokens": int,
    "seed": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "stop": list,
}
LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)  # ggml.h, ggml_log_callback


class RefusedError(Exception):
    """A request that can't be served: the HTTP status, an OpenAI error code and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "code": code}}


class Model:
    """One loaded model and the lock that gives its single sequence to one request at a time."""

    def __init__(self, job: Mapping[str, Any], errors: deque[str]) -> None:
        import llama_cpp

        from llmctl.engine.footprint import Footprint
        from llmctl.engine.loading import KV_TYPES, loads_as
        from llmctl.engine.preemption import Preemption

        self.name = str(job["model"])
        self._turn = threading.Lock()

        def keep_errors(level: int, text: bytes, _: object) -> None:
            if level == GGML_LOG_LEVEL_ERROR:
                errors.append(text.decode("utf-8", "replace").strip())

        self._log = LOG_CALLBACK(keep_errors)  # ctypes does not hold a reference for us
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        self._footprint = Footprint()
        # verbose=True keeps llama-cpp-python from pointing our file descriptors at /dev/null, which would swallow
        # the last words of a crash; what it prints itself in that mode is of no use to anybody.
        with contextlib.redirect_stderr(io.StringIO()), loads_as(job):
            self._llama: Any = llama_cpp.Llama(
                model_path=str(job["file"]),
                n_ctx=int(job["context"]),
                n_threads=int(job["threads"]),
                n_threads_batch=int(job["prefill_threads"]),
                n_ubatch=int(job["ubatch"]),
                n_batch=max(int(job["ubatch"]), BATCH),
                type_k=KV_TYPES[job["kv_type"]],
                type_v=KV_TYPES[job["kv_type"]],
                flash_attn=bool(job["flash_attention"]),
                swa_full=bool(job["swa_full"]),
                verbose=True,
            )
        self._llama.verbose = False
        self._preemption = Preemption()
        self._perf_reset = llama_cpp.llama_perf_context_reset
        self._perf = llama_cpp.llama_perf_context
        self.build = ", ".join(filter(None, (f"llama-cpp-python {llama_cpp.__version__}", self._footprint.build)))
        template = self._llama.metadata.get("tokenizer.chat_template")
        self.has_chat_template = template is not None
        self._format = self._formatter(template) if template is not None else _continue_text

    def _formatter(self, template: str) -> Callable[..., Any]:
        """llama-cpp-python's sandboxed renderer of the model's own template."""
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        def text(token: int) -> str:
            return str(self._llama.detokenize([token], special=True).decode("utf-8", "replace")) if token >= 0 else ""

        formatter = Jinja2ChatFormatter(
            template, eos_token=text(self._llama.token_eos()), bos_token=text(self._llama.token_bos())
        )

        def render(messages: list[Any], **variables: Any) -> str:
            return str(formatter(messages=messages, **variables).prompt)

        return render

    def stream(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of one chat completion; the last one carries usage and timings. Raises RefusedError."""
        prompt = self._prompt(request)
        options = {name: kind(request[name]) for name, kind in OPTIONS.items() if request.get(name) is not None}
        options.setdefault("max_tokens", None)  # as long as the context lasts
        with self._turn:
            tokens = self._tokens(prompt)
            self._perf_reset(self._llama.ctx)
            self._preemption.begin()
            finish = None
            if prompt.rstrip().endswith("<think>"):  # the template has opened the thoughts; say so to the reader
                yield self._chunk({"content": "<think>"}, None)
            text, sent = "", 0.0
            for made in self._llama.create_completion(tokens, stream=True, **options):
                choice = made["choices"][0]
                finish = choice["finish_reason"]
                text += choice["text"]
                now = time.perf_counter()
                if finish or (text and now - sent >= TOGETHER_S):
                    yield self._chunk({"content": text} if text else {}, finish)
                    text, sent = "", now
            yield self._last(finish)

    def _prompt(self, request: Mapping[str, Any]) -> str:
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise RefusedError(400, "invalid_request", "messages must be a list of objects that isn't empty")
        variables = request.get("chat_template_kwargs")
        try:
            return str(self._format(messages, **(variables if isinstance(variables, dict) else {})))
        except Exception as error:  # the template is the file's own program and may raise anything
            raise RefusedError(400, "template", f"the model's chat template refused: {str(error)[:200]}") from error

    def _tokens(self, prompt: str) -> list[int]:
        tokens: list[int] = self._llama.tokenize(
            prompt.encode("utf-8", "replace"), add_bos=not self.has_chat_template, special=self.has_chat_template
        )
        context = self._llama.n_ctx()
        if len(tokens) >= context:
            raise RefusedError(
                400,
                "context_length_exceeded",
                f"the prompt is {len(tokens):,} tokens, local context is {context:,}",
            )
        return tokens

    def _chunk(self, delta: Mapping[str, str], finish: str | None) -> dict[str, Any]:
        return {
            "object": "chat.completion.chunk",
            "model": self.name,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    def _last(self, finish: str | None) -> dict[str, Any]:
        """Usage, llama.cpp's own clock, and what it all has added to memory. ``n_eval`` counts single-token
        evaluations: the last token of an answer that was cut by length has been sampled but not evaluated."""
        perf = self._perf(self._llama.ctx)
        completion = perf.n_eval + (1 if finish == "length" else 0)
        prompt = self._llama.n_tokens - perf.n_eval
        return {
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
            "timings": {
                "prompt_n": perf.n_p_eval,
                "prompt_ms": perf.t_p_eval_ms,
                "predicted_n": perf.n_eval,
                "predicted_ms": perf.t_eval_ms,
                "preempted_per_s": self._preemption.per_s(),
            },
            "memory": self._footprint.added(),
        }


def _continue_text(messages: list[Any], **_: Any) -> str:
    """A base model continues text; dressing its prompt in another family's template only confuses it."""
    return "\n\n".join(str(message.get("content", "")) for message in messages)


def handler(model: Model, token: str) -> type[BaseHTTPRequestHandler]:
    """The request handler for ``model``, open to whoever brings ``token``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 600

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged: paths and bodies are the user's business."""

        def do_GET(self) -> None:
            if not self._allowed():
                return
            if self.path == "/v1/models":
                self._json(200, {"object": "list", "data": [{"id": model.name, "object": "model"}]})
            else:
                self._json(404, {"error": {"message": "not found", "code": "not_found"}})

        def do_POST(self) -> None:
            if not self._allowed():
                return
            if self.path != "/v1/chat/completions":
                self._json(404, {"error": {"message": "not found", "code": "not_found"}})
                return
            try:
                length = int(self.headers.get("Content-Length", ""))
                if not 0 < length <= BODY_LIMIT_BYTES:
                    raise ValueError
                request = json.loads(self.rfile.read(length))
            except ValueError:
                self.close_connection = True
                self._json(400, {"error": {"message": "a JSON body is needed", "code": "invalid_request"}})
                return
            self._stream(request)

        def _stream(self, request: Any) -> None:
            """Server-sent events. The status line waits for the first chunk, so that a refusal has its own."""
            started = False
            try:
                for chunk in model.stream(request if isinstance(request, dict) else {}):
                    if not started:
                        self.send_response(200)
                        self.send_header("Content-Type", "text/event-stream")
                        self.send_header("Transfer-Encoding", "chunked")
                        self.end_headers()
                        started = True
                    self._event(json.dumps(chunk))
                self._event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")
            except RefusedError as error:
                self._json(error.status, error.body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has gone; closing the generator stops the decoding
            except Exception as error:  # noqa: BLE001  # whatever decoding raises is told where the client listens
                self.close_connection = True
                told = {"error": {"message": f"decoding failed: {error}", "code": "decoding"}}
                if started:
                    self._event(json.dumps(told))
                else:
                    self._json(400, told)

        def _event(self, data: str) -> None:
            event = f"data: {data}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

        def _allowed(self) -> bool:
            given = self.headers.get("Authorization", "")
            if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return True
            self.close_connection = True
            self._json(401, {"error": {"message": "wrong token", "code": "unauthorized"}})
            return False

        def _json(self, status: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def main() -> int:
    # Whatever a library prints on stdout must not get between our lines.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        import llama_cpp  # noqa: F401  # before the job comes: the parent is still planning
    except (ImportError, OSError, RuntimeError) as error:
        say({"missing": str(error)})
        return 1
    line = sys.stdin.readline()
    if not line:
        return 0
    job = json.loads(line)

    def leave_with_the_parent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=leave_with_the_parent, daemon=True).start()
    errors: deque[str] = deque(maxlen=20)
    try:
        model = Model(job, errors)
    except Exception as error:  # noqa: BLE001  # whatever llama-cpp-python raises is told, not thrown
        say({"failed": str(error), "log": list(errors)})
        return 1
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(model, job["token"]))
    say(
        {
            "ready": {
                "port": server.server_address[1],
                "chat_template": model.has_chat_template,
                "build": model.build,
            }
        }
    )
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
