"""A gateway from its plan to its end, as ``llmctl serve`` runs it, in the foreground or not."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer
from msgspec import Struct

from llmctl.cli import INTERRUPTED
from llmctl.cli.serve import front, screen
from llmctl.cli.serve.front import FrontOptions, require_server
from llmctl.errors import LlmctlError
from llmctl.types.listener import SilentListener

if TYPE_CHECKING:
    from llmctl.cli.output import Output
    from llmctl.settings import Settings
    from llmctl.types.endpoint import Endpoint
    from llmctl.workspace.serve import Stopping
    from llmctl.workspace.serve_detached import Parent
    from llmctl.workspace.serve_plan import ServeAsked, ServePlan
    from llmctl.workspace.served_texts import ServedTexts

LOGGER = "llmctl.gateway"
STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class ServeOptions(Struct, frozen=True):
    """``idle_s`` None: a model stays for ever; ``log``: the file that the gateway's output goes to, None for none.
    ``opens``: the page is opened in a browser; ``files`` are indexes of own texts that may be searched."""

    asked: ServeAsked
    front: FrontOptions
    port: int
    preload: tuple[str, ...]
    queue: int
    idle_s: float | None
    log: str | None = None
    opens: bool = False
    files: tuple[str, ...] = ()


class TimedLines(SilentListener):
    """What happens while a gateway runs: a line each, with the time."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def note(self, text: str) -> None:
        self._out.note(f"{_now()} {text}")

    def warn(self, text: str) -> None:
        self._out.note(f"{_now()} warning: {text}")

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        self._out.must_say(f"{_now()} → {endpoint.name} ({host}, {endpoint.model}): {reason}")


def detached(out: Output, loaded: Settings, serving: ServeOptions, arguments: Sequence[str]) -> None:
    """Starts a gateway that goes on. It is planned here as well, where a person can be asked."""
    from llmctl.workspace import serve_detached
    from llmctl.workspace.serve import bound
    from llmctl.workspace.serve_plan import planned

    require_server(serving.front)
    with bound(serving.front.host, serving.port) as listening:
        plan = planned(out, loaded, serving.asked)
        access = front.access(serving.front, listening)
    seal_key = front.seal_line(serving.front)
    _say(out, plan)
    gateway = serve_detached.start(["serve", *arguments])
    page = None if serving.front.page is None else gateway.address.removesuffix("/v1") + front.PAGE_PATH
    _tell_address(out, gateway.address, page, seal_key)
    out.note("It goes on in the background: `llmctl ps` shows it, `llmctl logs` its log, `llmctl stop serve` ends it.")
    port = urlsplit(gateway.address).port or serving.port
    front.say(out, access, serving.front.host, port, seal_key)
    log = None if gateway.log is None else str(gateway.log)
    document = screen.document(plan, gateway.address, pid=gateway.pid, log=log, is_detached=True, page=page)
    out.data({**document, **front.document(access, serving.front.host, port, seal_key)})


def run(out: Output, loaded: Settings, serving: ServeOptions, parent: Parent) -> None:
    """Serves until it is stopped. Raises what ends it before its first model has loaded, and typer.Exit after
    Ctrl-C."""
    from llmctl.workspace import gateways, serve
    from llmctl.workspace.serve_plan import planned
    from llmctl.workspace.web_browser import opened

    require_server(serving.front)
    lines = TimedLines(out)
    _log_to(lines)
    host = serving.front.host
    with serve.bound(host, serving.port) as listening, front.sealing(serving.front) as sealing:
        plan = planned(out, loaded, serving.asked)
        access = front.access(serving.front, listening)
        texts = _texts(lines, loaded, serving, plan)
        guard = front.guard(serving.front, access, serve.hands_over_to(loaded, lines), plan, sealing, texts)
        _say(out, plan)
        address = serve.url_of(listening, host, tls=access.certificate is not None)
        entry = gateways.this_process(address, serve.listed(plan), log=serving.log, key=guard.own_key)
        models = serve.served_models(
            plan,
            loaded,
            lines,
            queue=serving.queue,
            idle_s=serving.idle_s,
            lock_memory=serving.front.lock_memory,
        )
        with models, gateways.announced(entry, lines):
            gateway = guard.gateway(models, listening)
            stopping = serve.Stopping(gateway, models)
            failures: list[LlmctlError] = []

            def failed(error: LlmctlError) -> None:
                failures.append(error)
                stopping(at_once=True)

            with _signals(stopping, lines) as received:
                listening.listen(serve.BACKLOG)
                page, seal_key = guard.page_url(address), None if sealing is None else sealing.keys.newest.line
                _tell_address(out, address, page, seal_key)
                port = listening.getsockname()[1]
                front.say(out, access, host, port, seal_key)
                document = screen.document(
                    plan, address, pid=os.getpid(), log=serving.log, is_detached=False, page=page
                )
                out.data({**document, **front.document(access, host, port, seal_key)})
                names = _loaded_first(plan, serving.preload)
                serve.preload(models, names, loaded=lambda: parent.tell(address), failed=failed)
                with opened(page, lines) if page is not None and serving.opens else nullcontext():
                    gateway.run()
    if failures:
        raise failures[0]
    if signal.SIGINT in received:
        raise typer.Exit(INTERRUPTED)


def _texts(lines: TimedLines, loaded: Settings, serving: ServeOptions, plan: ServePlan) -> ServedTexts | None:
    """What may be searched; None where nothing is named. Raises NotFoundError for a name that no index has."""
    if not serving.files:
        return None
    from llmctl.workspace.served_texts import ServedTexts

    least = min(model.context for model in plan.models)
    return ServedTexts(lines, loaded, serving.files, least_context=least)


def _loaded_first(plan: ServePlan, preload: Sequence[str]) -> list[str]:
    """The first model, and those that are pinned or were asked for, each once."""
    names = [plan.models[0].name, *(model.name for model in plan.models if model.pinned), *preload]
    return list(dict.fromkeys(names))


def _tell_address(out: Output, address: str, page: str | None, seal_key: str | None) -> None:
    """On stdout: the address that is to be opened, the page's by its link, else the API's; and the line of the key that
    is sealed for."""
    has_link = page is not None and "#" in page
    out.text(page if page is not None and has_link else address)
    if page is not None and not has_link:
        out.note(f"The page for people: {page}")
    if seal_key is not None:
        out.text(seal_key)


def _say(out: Output, plan: ServePlan) -> None:
    for line in screen.lines(plan):
        out.note(line)


@contextmanager
def _signals(stopping: Stopping, lines: TimedLines) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and the end of the terminal stop the gateway while the context lasts; it yields those that
    came."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            lines.note("stopping: open answers may finish; Ctrl-C ends them at once")
        stopping()

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines(logging.Handler):
    def __init__(self, lines: TimedLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.note(record.getMessage())


def _log_to(lines: TimedLines) -> None:
    """The gateway's own records, which hold no text of anybody's."""
    logger = logging.getLogger(LOGGER)
    logger.handlers = [_Lines(lines)]
    logger.propagate = False


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
