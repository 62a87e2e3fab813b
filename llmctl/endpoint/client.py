"""The one client. ``chat(address, request_body(...))`` streams pieces from any OpenAI-compatible address.

What a server sends is not trusted: lines, messages and waits are limited, a field of the wrong type counts as absent,
and the key is cut out of whatever a server says about it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from llmctl import net
from llmctl.errors import (
    AccessError,
    CertificateError,
    ContextError,
    EngineError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from llmctl.thoughts.marks import guessed_for, marks_for
from llmctl.thoughts.splitter import ThoughtSplitter
from llmctl.types.answer import Finished, Measured, Message, Piece, PieceKind, Sampling, Usage
from llmctl.types.endpoint import Address

if TYPE_CHECKING:
    import requests

TRIES = 3
BACK_OFF_S = 0.5
LONGEST_WAIT_S = 20.0
FIRST_TOKEN_TIMEOUT_S = 600.0  # a long prompt on a slow machine is work, not a stall
LINE_LIMIT_BYTES = 1 << 20
MESSAGE_LIMIT = 200
NUMBER_LIMIT = 1 << 53  # no count of tokens, bytes or milliseconds is larger
TOO_LONG = re.compile(r"context[ _](length|size|window)", re.IGNORECASE)  # llama-server, vLLM, LM Studio, OpenAI


def normal_url(url: str) -> str:
    """The base address with ``/v1``, whether or not the user wrote it; the any-address becomes loopback.

    Raises UsageError for what can't be one. User info and query are refused, they would be dropped, and not repeated,
    they may be secret.
    """
    if "@" in url or "?" in url or "#" in url:
        raise UsageError(
            "the address of a server can't carry a user name, a password or a query", hint="use --key-env VARIABLE"
        )
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        port = parts.port
    except ValueError as error:  # no number, out of range, brackets that don't close
        raise UsageError(f"{url} is not a usable address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is not an http or https address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname, parts.hostname)  # noqa: S104
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((parts.scheme, netloc, path if path.endswith("/v1") else path + "/v1", "", ""))


def request_body(address: Address, messages: Sequence[Message], sampling: Sampling) -> bytes:
    """Exactly the bytes that ``chat`` sends."""
    body: dict[str, Any] = {
        **(sampling.extra or {}),
        "model": address.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in ("max_tokens", "temperature", "seed"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    return json.dumps(body).encode()


def chat(
    address: Address, body: bytes, *, tries: int = TRIES, own_engine: bool = False
) -> Generator[Piece | Finished, None, None]:
    """Sends ``body`` (made by ``request_body``) and yields pieces as they arrive, then one Finished.

    ``own_engine``: the other side is our worker, which tells thoughts from the answer and sends notes.

    Refused, unreachable and dropped connections, connect time-outs, 5xx and 429 are tried again (Retry-After is
    honoured up to LONGEST_WAIT_S), ``tries`` times in all; nothing is once the server has begun to answer. Raises
    NetworkError (CertificateError), AccessError, NotFoundError, ContextError, EngineError, and UsageError or
    ConfigError for an address or a CA file that can't be used.
    """
    with net.session(address.url, ca_file=address.ca_file) as session:
        session.get_redirect_target = _nowhere  # type: ignore[method-assign]  # else it is read even if not followed
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        response = _post(session, address, body, tries)
        with response:
            yield from _pieces(response, address, own_engine)


def _nowhere(resp: requests.Response) -> str | None:
    """A prompt goes where it was sent and nowhere else."""
    return None


def _post(session: requests.Session, address: Address, body: bytes, tries: int) -> requests.Response:
    from requests.exceptions import ReadTimeout

    url = address.url + "/chat/completions"
    for attempt in range(1, tries + 1):
        last = attempt == tries
        wait_s = BACK_OFF_S * 2 ** (attempt - 1)
        try:
            with net.translated(url, "asking the server", hint="llmctl endpoint list"):
                response = session.post(
                    url,
                    data=body,
                    headers={
                        "Content-Type": "application/json",
                        "Accept": "text/event-stream",
                        "Connection": "close",  # else it lives as long as anything, an error even, holds the response
                    },
                    stream=True,
                    timeout=(net.CONNECT_TIMEOUT_S, FIRST_TOKEN_TIMEOUT_S),
                    allow_redirects=False,
                )
        except CertificateError as error:  # trying again won't make it trustworthy
            raise CertificateError(
                error.message, hint="llmctl endpoint add … --force --ca-file CA.pem   if a CA of your own has signed it"
            ) from error
        except NetworkError as error:
            if last or isinstance(error.__cause__, ReadTimeout):  # it took the prompt and may still be at work
                raise
        else:
            if response.status_code == 200:
                return response
            refused = refusal(response, address)
            response.close()
            session.close()  # the next try gets a connection of its own, whatever this one's end is like
            if last or not isinstance(refused, NetworkError):
                raise refused
            wait_s = min(net.retry_after_s(response.headers) or wait_s, LONGEST_WAIT_S)
        time.sleep(wait_s)
    raise AssertionError("unreachable")


def refusal(response: requests.Response, address: Address) -> LlmctlError:
    """The class of error for a status, with the server's own words."""
    status, host = response.status_code, net.host_of(address.url)
    code, words = "", ""
    try:
        body = json.loads(response.raw.read(LINE_LIMIT_BYTES))
        told = body.get("error", body.get("detail", ""))
        words = _words(told, address)
        code = f"{told.get('code')} {told.get('type')}" if isinstance(told, dict) else ""
    except Exception:  # noqa: BLE001, S110  # whatever a server says in its error page, the status is what counts
        pass
    says = f": {words}" if words else ""
    if status in (401, 403):
        return AccessError(
            f"{host} refused the key ({status}){says}", hint="llmctl endpoint list   shows which variable holds it"
        )
    if status in (400, 413) and ("context" in code or TOO_LONG.search(words)):
        where = "" if net.is_loopback(address.url) else f"{host}: "  # the local engine needs no name
        return ContextError(where + (words or "the prompt is longer than the context"))
    if status == 404:
        return NotFoundError(f"{host} has no such model or address (404){says}", hint="llmctl endpoint list")
    if 300 <= status < 400:
        return NotFoundError(
            f"{host} redirects ({status}), and a prompt goes only where you said", hint="llmctl endpoint list"
        )
    if status == 429 or status >= 500:
        wait_s = net.retry_after_s(response.headers)
        hint = "try again later" if wait_s is None else f"try again in {wait_s:.0f} s"
        return NetworkError(f"{host} answered {status}{says}", hint=hint)
    return EngineError(f"{host} refused the request ({status}){says}")


def _words(told: object, address: Address) -> str:
    """What a server says of an error, in one short line that can't drive a terminal and doesn't repeat the key."""
    words = str(told.get("message", "") if isinstance(told, dict) else told or "")
    if address.token:
        words = words.replace(address.token, "…")
    return "".join(c if c.isprintable() else " " for c in words)[:MESSAGE_LIMIT].strip()


@dataclass
class _Heard:
    """What the stream has told so far besides text."""

    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prefill_tokens: int | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    measured: Measured | None = None
    preempted_per_s: float | None = None
    events: int = 0
    complete: bool = False

    def note(self, event: dict[str, Any]) -> None:
        self.events += 1
        if isinstance(usage := event.get("usage"), dict):
            self.prompt_tokens = _whole(usage.get("prompt_tokens"))
            self.completion_tokens = _whole(usage.get("completion_tokens"))
        if isinstance(timings := event.get("timings"), dict):  # llama.cpp's own addition, ours and llama-server's
            self.prefill_tokens = _whole(timings.get("prompt_n"))
            self.prefill_s = _seconds(timings.get("prompt_ms"))
            self.decode_s = _seconds(timings.get("predicted_ms"))
            self.preempted_per_s = _amount(timings.get("preempted_per_s"))
        if isinstance(memory := event.get("memory"), dict):  # our own engine's
            self.measured = Measured(_whole(memory.get("anonymous_bytes")), _whole(memory.get("device_bytes")))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NUMBER_LIMIT else None


def _seconds(ms: object) -> float | None:
    return ms / 1000 if isinstance(ms, int | float) and 0 < ms < NUMBER_LIMIT else None


def _amount(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < NUMBER_LIMIT else None


def _text(value: object) -> str:
    """A string of the stream that can be written anywhere: half a surrogate pair becomes U+FFFD."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else ""


def _pieces(response: requests.Response, address: Address, own_engine: bool) -> Iterator[Piece | Finished]:
    host = net.host_of(address.url)
    heard = _Heard()
    splitter = ThoughtSplitter(marks_for(address.model), guessed=guessed_for(address.model))
    if own_engine:
        splitter.apart()
    for event in _events(response, host):
        if event is None:
            heard.complete = True
            break
        if error := event.get("error"):
            raise EngineError(f"{host} failed in the middle: {_words(error, address)}")
        heard.note(event)
        if own_engine:
            yield from _of_own_engine(event)
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            continue
        if isinstance(delta := choice.get("delta"), dict):
            if thought := _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")):
                yield from splitter.apart()
                yield Piece(PieceKind.REASONING, thought)
            if text := _text(delta.get("content")):
                yield from splitter.feed(text)
        heard.finish_reason = _text(choice.get("finish_reason")) or heard.finish_reason
    yield from splitter.end(complete=heard.finish_reason == "stop")
    if not heard.complete and heard.finish_reason is None:
        if not heard.events and "event-stream" not in response.headers.get("Content-Type", ""):
            raise NetworkError(f"{host} sent no stream of events: is this an OpenAI-compatible address?")
        raise NetworkError(f"{host} broke off in the middle of the answer")
    yield Finished(
        heard.finish_reason,
        Usage(heard.prompt_tokens, heard.completion_tokens),
        prefill_tokens=heard.prefill_tokens,
        prefill_s=heard.prefill_s,
        decode_s=heard.decode_s,
        measured=heard.measured,
        preempted_per_s=heard.preempted_per_s,
    )


def _of_own_engine(event: dict[str, Any]) -> Iterator[Piece]:
    """What our worker adds to the protocol: notes for a person, and that what it wrote so far were thoughts."""
    for note in event.get("notes") or ():
        yield Piece(PieceKind.NOTE, _text(note))
    if event.get("thoughts_so_far"):
        yield Piece(PieceKind.THOUGHTS_SO_FAR, "")


def _events(response: requests.Response, host: str) -> Iterator[dict[str, Any] | None]:
    """Decoded server-sent events; None for the end mark. A connection that breaks ends with NetworkError."""
    import http.client

    import urllib3

    waiting = b""
    while True:
        try:
            data = response.raw.read1(1 << 16)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise NetworkError(f"{host} broke off in the middle of the answer") from error
        if not data:
            return
        waiting += data
        *lines, waiting = waiting.split(b"\n")
        if len(waiting) > LINE_LIMIT_BYTES:
            raise NetworkError(f"{host} sent a line of more than {LINE_LIMIT_BYTES:,} bytes")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            value = line[5:].strip()
            if value == b"[DONE]":
                yield None
                return
            try:
                event = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise NetworkError(f"{host} sent something that is not JSON") from error
            if isinstance(event, dict):
                yield event
