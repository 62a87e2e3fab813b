"""Findings about one server of the user's, each as soon as it is known. It is asked for a few words of llmctl's own."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llmctl import net, units
from llmctl.endpoint.again import add_command
from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.encoding import CONTINUING
from llmctl.endpoint.health import offer
from llmctl.endpoint.keys import key_of, place
from llmctl.endpoint.privacy import privacy
from llmctl.endpoint.seal_pins import pin_of
from llmctl.endpoint.sealed_keys import opened_by
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.timing import timing_of
from llmctl.endpoint.trust import identity
from llmctl.errors import CertificateError, EngineError, LlmctlError, NotFoundError, UnreachableError
from llmctl.printable import printable
from llmctl.shell import command
from llmctl.types.endpoint import Endpoint
from llmctl.types.event import Event, Finished, Reasoning, Text, ToolCall
from llmctl.types.finding import Check, Status
from llmctl.types.request import JsonSchema, Message, Request, Sampling, Tool

ENDS_SOON_DAYS = 14
QUESTION = Request.of("Count from 1 to 10.", Sampling(max_tokens=32))
TOOL = Tool("add", "Adds two numbers.", {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]})
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
FORMED = Sampling(  # a slow server writes as many in a minute, if they don't go into thoughts
    max_tokens=64, extra={"chat_template_kwargs": {"enable_thinking": False}}
)
TOOLS_NEED = "vLLM wants --enable-auto-tool-choice and --tool-call-parser, llama-server --jinja; not every model can"
SCHEMAS_NEED = "llmctl run --schema FILE -m NAME …   keeps to it with a model here"
MEASURABLE_S = 0.1
HEEDS = "nginx: proxy_buffering off, or no proxy_ignore_headers X-Accel-Buffering, by which llmctl's gateway says so"
BEGUN = "1, 2, 3, 4,"
GOES_ON = re.compile(r"\W*5\b")


class EndpointStep(Struct, frozen=True):
    """``is_needed``: without it nothing goes."""

    id: str
    findings: Callable[[Endpoint], Iterator[Check]]
    is_needed: bool = True


def examine(endpoint: Endpoint, tell: Callable[[Check], None]) -> LlmctlError | None:
    """Tells of every finding, and returns the error after which nothing more could be looked at, None if there is
    none."""
    for step in STEPS:
        try:
            for check in step.findings(endpoint):
                tell(check)
        except LlmctlError as error:
            status = Status.FAIL if step.is_needed else Status.WARN
            tell(Check(step.id, status, error.message, error.hint))
            if step.is_needed:
                return error
    return None


def _name(endpoint: Endpoint) -> Iterator[Check]:
    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    if (proxy := endpoint.proxy or net.proxy_of(endpoint.url)) is not None:
        yield Check("name", Status.OK, f"{host} is reached through the proxy {net.host_of(proxy)}")
        return
    try:
        resolved = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        hint = command("llmctl", "endpoint", "show", names=[endpoint.name])
        raise UnreachableError(f"{host} is no name that is known here ({error.strerror})", hint=hint) from error
    numbers = dict.fromkeys(str(address[0]) for *_, address in resolved)
    if list(numbers) != [host]:
        yield Check("name", Status.OK, f"{host} is {', '.join(numbers)}")


def _tls(endpoint: Endpoint) -> Iterator[Check]:
    if not endpoint.url.startswith("https:"):
        private = net.is_loopback(endpoint.url)
        says = "it is on this machine" if private else "plain http: prompts can be read by anyone on the way"
        yield Check("tls", Status.OK if private else Status.WARN, says)
        return
    address = address_of(replace(endpoint, key=None))
    seen = identity(address.url, address.trust, address.proxy)
    shown = seen.certificate
    if seen.problem is not None:
        add = add_command(replace(endpoint, trust=replace(endpoint.trust, pin=shown.pin)))
        raise CertificateError(seen.problem, hint=f"{add}   if its owner confirms that key")
    trust = endpoint.trust
    by = "signed by the CA file's authority" if trust.ca_file else "signed by an authority of the system"
    by = by if trust.pin is None else f"the pinned key, {by}" if trust.ca_file else "the pinned key"
    days = shown.days_left
    ends = f"certificate ends in {units.number_of(days, 'day')}" if days >= 0 else "certificate has ended"
    client = "" if trust.client is None else f", shown {trust.client.cert_file}"
    yield Check("tls", Status.OK if days >= ENDS_SOON_DAYS else Status.WARN, f"{seen.tls}, {by}, {ends}{client}")


def _sealed(endpoint: Endpoint) -> Iterator[Check]:
    if endpoint.seal is not None:
        key = opened_by(address_of(replace(endpoint, key=None)), endpoint.seal)
        pinned = "the pinned key" if key == pin_of(endpoint.seal) else "the key that the pinned one vouches for"
        yield Check("sealed", Status.OK, f"it opens what is sealed for {pinned}, {key.fingerprint}")


def _key(endpoint: Endpoint) -> Iterator[Check]:
    if endpoint.key is None:
        yield Check("key", Status.OK, "no key is sent")
        return
    key_of(endpoint.key, endpoint.name)
    yield Check("key", Status.OK, f"the key is in {place(endpoint.key)}")


def _models(endpoint: Endpoint) -> Iterator[Check]:
    begun_s = time.perf_counter()
    offered = offer(address_of(endpoint))
    offers = offered.models
    took = f"{(time.perf_counter() - begun_s) * 1000:.0f} ms"
    if offers is None:
        yield Check("models", Status.OK, f"it answers in {took}, and lists no models")
    elif endpoint.model in offers:
        yield Check("models", Status.OK, f"it answers in {took}, and has {endpoint.model}")
    else:
        names = ", ".join(offers[:5]) or "none"
        raise NotFoundError(
            f"it has no model {printable(endpoint.model)} (it has: {names})",
            hint=add_command(replace(endpoint, model=next(iter(offers), "NAME"))),
        )
    if offered.software is not None:
        yield Check("software", Status.OK, f"it is {offered.software.name}", offered.software.advice)
    if offered.context is not None:
        yield _context(endpoint, offered.context)


def _context(endpoint: Endpoint, offered: int) -> Check:
    kept, says = endpoint.limits.context, f"it takes {offered:,} tokens of context"
    again = add_command(replace(endpoint, limits=replace(endpoint.limits, context=offered)))
    if kept is None:
        return Check("context", Status.OK, says, f"{again}   keeps longer prompts from leaving")
    if kept > offered:
        return Check("context", Status.WARN, f"{says}, the endpoint's table says {kept:,}", again)
    return Check("context", Status.OK, says)


def _answer(endpoint: Endpoint) -> Iterator[Check]:
    begun_s = time.perf_counter()
    times: list[float] = []
    finished: Finished | None = None
    for event in _asked(endpoint, QUESTION):
        if isinstance(event, Text | Reasoning):
            times.append(time.perf_counter())
        elif isinstance(event, Finished):
            finished = event
    if not times or finished is None:
        raise EngineError("it answered without a word", hint=command("llmctl", "run", "-e", endpoint.name, "Hello"))
    words = f"first token {units.seconds(times[0] - begun_s)}"
    tokens, writing_s = finished.usage.completion_tokens, times[-1] - times[0]
    if tokens and tokens > 1 and writing_s > 0:
        words += f", {units.tok_s((tokens - 1) / writing_s)} tok/s"
    yield Check("answer", Status.OK, words)
    yield _stream(len(times), writing_s, finished.decode_s)


def _stream(pieces: int, came_in_s: float, written_in_s: float | None) -> Check:
    """``written_in_s`` is what the server says, None where it says nothing."""
    if pieces == 1:
        streams_need = "a proxy that buffers may stand before it: proxy_buffering off, in nginx"
        return Check("stream", Status.WARN, "the answer came in one piece: it may not stream", streams_need)
    if written_in_s is not None and written_in_s >= MEASURABLE_S and came_in_s < written_in_s / 4:
        took = f"the answer was written in {units.seconds(written_in_s)} and came in {units.seconds(came_in_s)}"
        return Check("stream", Status.WARN, f"{took}: a proxy on the way keeps it back", HEEDS)
    return Check("stream", Status.OK, "the answer is streamed")


def _tools(endpoint: Endpoint) -> Iterator[Check]:
    request = replace(Request.of("Use the tool: add 2.", FORMED), tools=(TOOL,))
    if any(isinstance(event, ToolCall) for event in _asked(endpoint, request)):
        yield Check("tools", Status.OK, "it calls tools")
    else:
        yield Check("tools", Status.WARN, "it called no tool, though one was offered", TOOLS_NEED)


def _schema(endpoint: Endpoint) -> Iterator[Check]:
    request = replace(
        Request.of("Is water wet? Answer in JSON.", FORMED),
        response_format=JsonSchema(SCHEMA),
    )
    text = "".join(event.text for event in _asked(endpoint, request) if isinstance(event, Text))
    try:
        keeps = isinstance(json.loads(text)["ok"], bool)
    except (ValueError, TypeError, KeyError, RecursionError):
        keeps = False
    says = "its answer keeps to a JSON schema" if keeps else "its answer does not keep to a JSON schema"
    yield Check("schema", *((Status.OK, says) if keeps else (Status.WARN, says, SCHEMAS_NEED)))


def _privacy(endpoint: Endpoint) -> Iterator[Check]:
    said = privacy(address_of(endpoint))
    if said is None:
        return
    if exceptions := "; ".join(said.exceptions()):
        yield Check("privacy", Status.WARN, f"it says that {exceptions}")
        return
    says = "it says that nothing of prompts and answers is logged or kept, and that its engine has no network"
    yield Check("privacy", Status.OK, says)


def _continues(endpoint: Endpoint) -> Iterator[Check]:
    begun = Message.of("assistant", BEGUN)
    extra = {**(FORMED.extra or {}), **CONTINUING}
    request = Request((*QUESTION.messages, begun), sampling=Sampling(max_tokens=8, extra=extra))
    text = "".join(event.text for event in _asked(endpoint, request) if isinstance(event, Text))
    if GOES_ON.match(text):
        says = "it goes on with an answer that was begun elsewhere"
        allow = f"{add_command(replace(endpoint, continues=True))}   lets it"
        yield Check("continues", Status.OK, says, None if endpoint.continues else allow)
    else:
        says = "it begins anew where it should go on with an answer"
        forbid = add_command(replace(endpoint, continues=False))
        yield Check("continues", *((Status.WARN, says, forbid) if endpoint.continues else (Status.OK, says)))


def _asked(endpoint: Endpoint, request: Request) -> Iterator[Event]:
    address = address_of(endpoint)
    yield from chat(address, request_body(address, request), timing=timing_of(endpoint.limits))


STEPS = (
    EndpointStep("name", _name),
    EndpointStep("tls", _tls),
    EndpointStep("sealed", _sealed),
    EndpointStep("key", _key),
    EndpointStep("models", _models),
    EndpointStep("answer", _answer),
    EndpointStep("tools", _tools, is_needed=False),
    EndpointStep("schema", _schema, is_needed=False),
    EndpointStep("privacy", _privacy, is_needed=False),
    EndpointStep("continues", _continues, is_needed=False),
)
