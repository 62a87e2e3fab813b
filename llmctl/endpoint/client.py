"""The one client. ``chat(address, request_body(...))`` streams events from any OpenAI-compatible address."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import net
from llmctl.endpoint.address import chat_url, without_version
from llmctl.endpoint.answer import answer_of
from llmctl.endpoint.encoding import CONTINUING, chat_fields
from llmctl.endpoint.refusal import Refusal, keyless, refusal_of
from llmctl.endpoint.session import session_to
from llmctl.endpoint.timing import ChatTiming
from llmctl.errors import CertificateError, NetworkError, SealError
from llmctl.net.timing import Timing
from llmctl.types.endpoint import Address
from llmctl.types.event import Event
from llmctl.types.request import Request

if TYPE_CHECKING:
    from llmctl.net.response import AskingSession

TRIES = 3
OURS = ("stream_options", "chat_template_kwargs", *CONTINUING)  # fields that nobody has asked for by name
UNKNOWN_FIELD = re.compile(
    r"(extra|unknown|unexpected|unrecogni[sz]ed|unsupported|additional|invalid)[\w ]*"
    r"(field|input|argument|parameter|propert|key)",
    re.IGNORECASE,
)
OTHER_KEY = "llmctl endpoint test NAME   shows the key; pin another one only if the server's owner has changed it"
OWN_CA = "llmctl endpoint add … --force --ca-file CA.pem   if a CA of your own has signed it"


def request_body(address: Address, request: Request) -> bytes:
    """The bytes that ``chat`` sends, unless the server wants a field left out."""
    return json.dumps(chat_fields(request, address.model)).encode()


def chat(
    address: Address,
    body: bytes,
    *,
    tries: int = TRIES,
    timing: ChatTiming | None = None,
    on_sent: Callable[[int], None] | None = None,
    own_engine: bool = False,
) -> Generator[Event, None, None]:
    """Sends ``body`` (made by ``request_body``) and yields events as they arrive, the last of them Finished.

    Where nothing of the body has left (connections that are refused, time out or break before it) and where the server
    says that it may do later (5xx, 429, 408, 409, 425), it is tried again, ``tries`` times in all, with ``waits_s`` of
    waiting altogether; a server that asks for more time than that gets none. A server that refuses a field of ours is
    asked without it, one that has nothing at an address with ``/v1`` at the one without. Nothing is sent again once
    the server has begun to answer, or has taken a part of the prompt and then failed.

    ``on_sent`` is told how many bytes of the body were just handed to the operating system, those of every try: their
    sum is what left this machine. ``own_engine``: the other side is our worker, which tells thoughts from the answer
    and sends notes. Raises NetworkError (CertificateError), AccessError, NotFoundError, ContextError, EngineError,
    UsageError for a request that the own engine can't serve, and UsageError or ConfigError for an address or a CA file
    that can't be used.
    """
    timing = timing or ChatTiming()
    transport = replace(timing.transport, answer_s=min(timing.first_token_s, timing.silent_s))
    with keyless(address), _session(address, transport, on_sent, own_engine) as session:
        if address.token:
            session.headers["Authorization"] = f"Bearer {address.token}"
        response, begun_s = _answered(session, address, Post(chat_url(address.url), body), tries, timing, own_engine)
        with response:
            yield from answer_of(
                response, address, timing, first_by_s=begun_s + timing.first_token_s, own_engine=own_engine
            )


def _session(
    address: Address, timing: Timing, on_sent: Callable[[int], None] | None, own_engine: bool
) -> AskingSession:
    if own_engine:
        return net.engine_session(timing=timing, on_sent=on_sent)
    return session_to(address, timing, on_sent)


class Post(Struct, frozen=True):
    """What is posted, and where."""

    url: str
    body: bytes

    def adapted(self, refusal: Refusal) -> Post | None:
        """What the server may take instead of this, which it has refused; None if nothing is known."""
        if refusal.status in (404, 405):
            base = without_version(self.url.removesuffix("/chat/completions"))
            speaks_of_model = "model" in refusal.page.lower()
            return None if base is None or speaks_of_model else replace(self, url=chat_url(base))
        if refusal.status not in (400, 422):
            return None
        fields: dict[str, Any] = json.loads(self.body)
        if "max_tokens" in fields and "max_completion_tokens" in refusal.page:  # what OpenAI calls it by now
            return self._with({**fields, "max_completion_tokens": fields["max_tokens"]}, without="max_tokens")
        ours = [name for name in OURS if name in fields]
        named = [name for name in ours if name in refusal.page]
        unwanted = named or (ours if UNKNOWN_FIELD.search(refusal.words) else [])
        return self._with(fields, without=unwanted[0]) if unwanted else None

    def _with(self, fields: dict[str, Any], *, without: str) -> Post:
        kept = {name: value for name, value in fields.items() if name != without}
        return replace(self, body=json.dumps(kept).encode())


def _answered(
    session: AskingSession, address: Address, post: Post, tries: int, timing: ChatTiming, own_engine: bool
) -> tuple[net.Response, float]:
    """The server's answer, and when, by the monotonic clock, the try that it answers was begun."""
    wait_s, left_s = timing.back_off_s, timing.waits_s
    while True:
        tries -= 1
        begun_s, sent_before = time.monotonic(), session.exchange.sent_bytes
        pause_s = wait_s
        try:
            response = _posted(session, post)
        except SealError:
            raise
        except CertificateError as error:  # trying again won't make it trustworthy
            raise CertificateError(error.message, hint=OTHER_KEY if address.trust.pin else OWN_CA) from error
        except NetworkError:
            if not tries or session.exchange.sent_bytes > sent_before:  # it has the prompt and may still be at work
                raise
        else:
            if 200 <= response.status_code < 300:
                return response, begun_s
            with response:
                refusal = refusal_of(response, address, page_s=timing.page_s, own_engine=own_engine)
            session.close()  # the next try gets a connection of its own, whatever this one's end is like
            if (adapted := post.adapted(refusal)) is not None:
                post, tries = adapted, tries + 1
                continue
            pause_s = refusal.retry_after_s or wait_s
            if not tries or not refusal.is_transient or pause_s > left_s:
                raise refusal.error
        time.sleep(min(pause_s, left_s))
        wait_s, left_s = 2 * wait_s, left_s - pause_s


def _posted(session: AskingSession, post: Post) -> net.Response:
    with net.translated(post.url, "asking the server", hint="llmctl endpoint list"):
        return session.ask(
            "POST",
            post.url,
            data=post.body,
            headers={
                "Content-Type": "application/json",
                "Accept": "text/event-stream",
                "Connection": "close",  # else it lives as long as anything, an error even, holds the response
            },
        )
