"""Whether a server of the user's answers, and with which models. No prompt is sent."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl import net
from llmctl.endpoint.address import chat_url, models_url, without_version
from llmctl.endpoint.refusal import OTHER_ADDRESS, keyless, refusal_of, shown
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.session import session_to
from llmctl.endpoint.software import Software, context_of, software_of
from llmctl.errors import LlmctlError, NotFoundError
from llmctl.types.endpoint import Address, Endpoint

if TYPE_CHECKING:
    from llmctl.endpoint.sealed_session import SealedSession
    from llmctl.net.connection import HttpSession

TIMING = net.Timing(connect_s=2.0, idle_s=2.0, answer_s=3.0, small_s=3.0)
PAGE_S = 1.0
LIMIT_BYTES = 4 << 20
MOST_MODELS = 1000
DOING, HINT = "asking the server", "llmctl endpoint list"


class ServerOffer(Struct, frozen=True):
    """The names of a server's models, None if it doesn't list them; the program that it is, and the context of the
    model that is asked for, where it tells."""

    models: tuple[str, ...] | None
    software: Software | None = None
    context: int | None = None


class EndpointHealth(Struct, frozen=True):
    """``wrong`` says why the server can't be used, None if it can. ``offers`` are its models' names, None where it
    doesn't tell; ``took_s`` is the time it took to answer."""

    name: str
    model: str
    host: str
    took_s: float = 0.0
    offers: tuple[str, ...] | None = None
    wrong: str | None = None
    hint: str | None = None


def health(endpoint: Endpoint, timing: net.Timing = TIMING) -> EndpointHealth:
    """Asks for its list of models, as every OpenAI-compatible server has it. Takes some ``timing``, raises nothing."""
    host = net.host_of(endpoint.url)
    begun = time.perf_counter()
    try:
        address = address_of(endpoint)
        with keyless(address):
            offers = models(address, timing)
    except LlmctlError as error:
        return EndpointHealth(endpoint.name, endpoint.model, host, wrong=error.message, hint=error.hint)
    return EndpointHealth(endpoint.name, endpoint.model, host, time.perf_counter() - begun, offers)


def models(address: Address, timing: net.Timing = TIMING) -> tuple[str, ...] | None:
    """The names of the server's models, None if it doesn't list them. Raises what ``offer`` raises."""
    return offer(address, timing).models


def offer(address: Address, timing: net.Timing = TIMING) -> ServerOffer:
    """What the server says of itself. Raises NetworkError, NotFoundError if there is no server at that address, and
    what a refusal means."""
    with session_to(address, timing) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        bases = [base for base in (address.url, without_version(address.url)) if base]
        for base in bases:
            with _asked(session, models_url(base)) as response:
                if response.status_code == 200:
                    return _offer(response, net.whole(response, DOING, limit_bytes=LIMIT_BYTES), address)
                if response.status_code not in (404, 405):
                    raise refusal_of(response, address, page_s=PAGE_S).error
        for base in bases:
            with _asked(session, chat_url(base)) as response:  # takes a POST only, and says so, if it is there
                if response.status_code != 404:
                    return ServerOffer(None)
    host = net.host_of(address.url)
    raise NotFoundError(f"{host} has neither models nor a chat at this address (404)", hint=OTHER_ADDRESS)


def _asked(session: HttpSession | SealedSession, url: str) -> net.Response:
    with net.translated(url, DOING, hint=HINT):
        return session.ask("GET", url)


def _offer(response: net.Response, raw: bytes, address: Address) -> ServerOffer:
    try:
        document = json.loads(raw)
        names = tuple(shown(str(entry["id"]), address) for entry in document["data"][:MOST_MODELS])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ServerOffer(None)
    return ServerOffer(names, software_of(response.headers, document), context_of(document, address.model))
