"""Whether a server of the user's answers, and with which models. No prompt is sent."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from llmctl import net
from llmctl.endpoint.client import refusal
from llmctl.endpoint.secrets import address_of
from llmctl.errors import LlmctlError
from llmctl.types.endpoint import Address, Endpoint

TIMEOUT_S = 2.0
LIMIT_BYTES = 1 << 20
MOST_MODELS = 1000


@dataclass(frozen=True, slots=True)
class Health:
    """``wrong`` says why the server can't be used, None if it can. ``offers`` are its models' names, None where it
    doesn't tell; ``took_s`` is the time it took to answer."""

    name: str
    model: str
    host: str
    took_s: float = 0.0
    offers: tuple[str, ...] | None = None
    wrong: str | None = None
    hint: str | None = None


def health(endpoint: Endpoint) -> Health:
    """Asks for its list of models, as every OpenAI-compatible server has it. Takes some TIMEOUT_S, raises nothing."""
    host = net.host_of(endpoint.url)
    begun = time.perf_counter()
    try:
        address = address_of(endpoint)
        offers = _models(address)
    except LlmctlError as error:
        return Health(endpoint.name, endpoint.model, host, wrong=error.message, hint=error.hint)
    return Health(endpoint.name, endpoint.model, host, time.perf_counter() - begun, offers)


def _models(address: Address) -> tuple[str, ...] | None:
    with net.session(address.url, ca_file=address.ca_file) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        url = address.url + "/models"
        with net.translated(url, "asking the server", hint="llmctl endpoint list"):
            response = session.get(url, stream=True, timeout=TIMEOUT_S, allow_redirects=False)
        with response:
            if response.status_code == 404:  # it answers; not every server lists its models
                return None
            if response.status_code != 200:
                raise refusal(response, address)
            with net.translated(url, "asking the server", hint="llmctl endpoint list"):
                text = response.raw.read(LIMIT_BYTES)
    try:
        listed = json.loads(text)["data"]
        return tuple(str(one["id"]) for one in listed[:MOST_MODELS])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
