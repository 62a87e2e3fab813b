"""Asking the user's servers, one after the other, until one has answered or gone on with what another had begun."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from msgspec.structs import replace

from llmctl.endpoint.client import TRIES, chat, request_body
from llmctl.endpoint.encoding import CONTINUING
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.session import sealed_for
from llmctl.endpoint.timing import timing_of
from llmctl.errors import EngineError, LlmctlError, NetworkError
from llmctl.net import host_of
from llmctl.router.executed import answer_of, kept_events
from llmctl.router.kept_availability import noted
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.receipts import recorded
from llmctl.router.room import require_room
from llmctl.router.route import refused_as_private
from llmctl.types.answer import Answer, Executed
from llmctl.types.endpoint import Endpoint, Remote, Side
from llmctl.types.event import Event, Finished, Usage
from llmctl.types.listener import Listener
from llmctl.types.request import Message, Request


def require_not_private(request: Request, endpoint: Endpoint) -> None:
    """Raises PolicyError. No route that ``route`` makes for a private prompt leads to a server; it has no second
    door."""
    if request.private:
        raise refused_as_private(f"nothing may go to {endpoint.name}")


def ask_servers(
    route: Remote, request: Request, listener: Listener, so_far: PartialAnswer
) -> Generator[Event, None, Answer]:
    """Yields the events of the first server that answers. Before the first token any failure leads to the next one,
    without another try; after it, a broken answer to the next that may go on with it. The listener hears of each before
    a byte leaves. Raises what the last one raises, and PolicyError for a private prompt."""
    require_not_private(request, route.endpoint)
    handing_over = HandingOver(route, request, listener, so_far)
    servers, reason = handing_over.servers, route.reason
    while True:
        endpoint, servers = servers[0], servers[1:]
        try:
            finished = yield from handing_over.asked(endpoint, reason, tries=1 if servers else TRIES)
        except LlmctlError as error:
            servers = able_to_go_on(servers, request, so_far) if _may_go_on(error, so_far) else ()
            if not servers:
                raise
            reason = f"{endpoint.name} failed: {error.message}"
        else:
            executed = Executed(Side.REMOTE, endpoint.name, endpoint.model, None, reason, route.why)
            return answer_of(so_far, finished, executed)


def able_to_go_on(servers: tuple[Endpoint, ...], request: Request, so_far: PartialAnswer) -> tuple[Endpoint, ...]:
    """Those of ``servers`` that may be asked now: all before the first token; after it those that go on with an answer
    that was begun, if it is text alone and has no form to keep."""
    if so_far.first_token is None:
        return servers
    is_text = bool("".join(so_far.text).strip()) and not request.tools and request.response_format is None
    return tuple(endpoint for endpoint in servers if endpoint.continues) if is_text else ()


def _may_go_on(error: LlmctlError, so_far: PartialAnswer) -> bool:
    return so_far.first_token is None or isinstance(error, NetworkError | EngineError)


def continued(request: Request, so_far: PartialAnswer) -> Request:
    """``request`` with the part of the answer that is there as its last message, which the server is to go on with. It
    need not think once more."""
    begun = Message.of("assistant", "".join(so_far.text))
    sampling = request.sampling
    left = None if sampling.max_tokens is None else max(1, sampling.max_tokens - len(so_far.text))
    extra = dict(sampling.extra or {})
    template = {**extra.get("chat_template_kwargs", {}), "enable_thinking": False}
    more = replace(sampling, max_tokens=left, extra={**extra, **CONTINUING, "chat_template_kwargs": template})
    return replace(request, messages=(*request.messages, begun), sampling=more)


@dataclass(frozen=True)
class HandingOver:
    """One prompt, on its way to one server after the other."""

    route: Remote
    request: Request
    listener: Listener
    so_far: PartialAnswer

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        return self.route.endpoint, *self.route.others

    def asked(self, endpoint: Endpoint, reason: str, *, tries: int) -> Generator[Event, None, Finished]:
        """The events of this server, and the last of them. Raises what the client raises, and ContextError."""
        so_far, address = self.so_far, address_of(endpoint)
        is_continued = so_far.first_token is not None
        request = continued(self.request, so_far) if is_continued else self.request
        if endpoint.limits.context is not None:
            require_room(request, endpoint.limits.context, f"the context of {endpoint.name}")
        body, host = request_body(address, request), host_of(address.url)
        self.listener.leaving(endpoint, host, reason)

        sealed, tls = sealed_for(address), address.url.startswith("https:")

        def sent(count: int) -> None:
            so_far.sent(count, host, tls=tls, sealed=sealed)

        with recorded(endpoint, self.route.why, so_far, self.listener), noted(endpoint, self.servers):
            answering = chat(address, body, tries=tries, timing=timing_of(endpoint.limits), on_sent=sent)
            finished = yield from kept_events(answering, so_far)
            so_far.cost = _cost(endpoint, finished.usage)
        # What a server tells of an answer that another has begun is not the whole of it.
        return replace(finished, usage=Usage(finished.usage.prompt_tokens, None)) if is_continued else finished


def _cost(endpoint: Endpoint, usage: Usage) -> float | None:
    if endpoint.price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return endpoint.price.cost(usage.prompt_tokens, usage.completion_tokens)
