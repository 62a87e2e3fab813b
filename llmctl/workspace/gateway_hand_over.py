"""What a gateway hands over to the user's own servers where its policy lets it, with a receipt of what has left."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress

from llmctl.endpoint.forwarding import CHAT_PATH, ForwardedAnswer, forwarded, texts, with_model
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.session import sealed_for
from llmctl.endpoint.timing import timing_of
from llmctl.errors import EngineError, LlmctlError, UsageError
from llmctl.net import host_of
from llmctl.router.kept_availability import noted
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.receipts import recorded
from llmctl.router.room import require_room_for
from llmctl.router.route import allowed, reason_of, refused_as_private
from llmctl.settings import Settings
from llmctl.types.endpoint import Endpoint, LeaveReason
from llmctl.types.listener import Listener
from llmctl.types.policy import Policy
from llmctl.workspace.served_models import AUTO
from llmctl.workspace.servers import in_turn

REFUSED, FAILED = 400, 500  # the lowest statuses of a server that doesn't take the request, and of one that has failed
TOO_MANY = 429
POLICIES = (Policy.LOCAL_ONLY, Policy.PREFER_LOCAL)


def require_policy(policy: Policy) -> None:
    """Raises UsageError for one that makes no sense for a gateway."""
    if policy not in POLICIES:
        raise UsageError(
            f"--policy {policy}: a gateway answers with this machine's models first, so it takes "
            f"{' or '.join(POLICIES)}; a program that wants the server can ask that itself",
            hint="llmctl serve --policy prefer-local",
        )


class GatewayHandOver:
    """Decides who takes a request that has failed here. ``settings`` have the gateway's own policy."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings, self._listener = settings, listener

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """Those that may be asked now, in the order in which they are; what has failed lately comes last."""
        settings, now = self._settings, in_turn(self._settings)
        may = allowed(settings.policy, now.endpoints, offline=settings.offline)
        return tuple(sorted(may, key=lambda server: server.name in now.resting))

    def to_server(self, error: LlmctlError, *, private: bool, name: str) -> HandedOver | None:
        """What takes the request for the model ``name``, which has failed here with ``error``. A model that was asked
        for by its own name answers, or nothing does. Raises PolicyError for a private one that would leave."""
        why = reason_of(error, loaded=False)
        servers = () if why is None or name.partition(":")[0] != AUTO else self.servers
        if why is None or not servers:
            return None
        if private:
            raise refused_as_private(f"{error.message}, and it may not go to {servers[0].name}")
        return HandedOver(servers, why, error.message, self._listener)


class _RefusedError(EngineError):
    """A refusal was passed on as the answer: the receipt tells it from one."""


class HandedOver:
    """One request on its way to the first of ``servers`` that answers. ``name`` and ``headers`` are those of the one
    that was asked last, and complete once it was opened."""

    def __init__(self, servers: tuple[Endpoint, ...], why: LeaveReason, reason: str, listener: Listener) -> None:
        self._servers, self._server = servers, servers[0]
        self._why, self._reason, self._listener = why, reason, listener
        self._so_far = PartialAnswer()

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def headers(self) -> Mapping[str, str]:
        """What the receipts say: who answers, how many bytes have left in all, and why."""
        left = self._so_far.left
        who = {
            "x-llmctl-route": self.name,
            "x-llmctl-host": host_of(self._server.url),
            "x-llmctl-model": self._server.model,
            "x-llmctl-left-because": self._why.value,
        }
        return who if left is None else {**who, "x-llmctl-bytes": str(left.total_bytes)}

    def open(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        """Status, headers and body of the answer; a server that refuses it, or fails before its first word, leads to
        the next one. The last one's refusal is the answer, unless it has failed. Raises UsageError for what only this
        machine answers, ContextError, and what ``endpoint.forwarding`` raises. None is asked twice: who asks a gateway
        is a program, which does that by itself."""
        if path != CHAT_PATH:
            raise UsageError(f"{self._reason}; {self.name} is asked for chat completions alone")
        reason = self._reason
        for server in self._servers:
            self._server = server
            answer = self._answer(with_model(body, server.model), reason)
            try:
                head = next(answer)
            except LlmctlError as error:
                if server is self._servers[-1]:
                    raise
                reason = f"{server.name} failed: {error.message}"
            else:
                assert isinstance(head, ForwardedAnswer), "the head comes first"
                return head.status, head.headers, _body(answer)
        raise AssertionError("the last one has answered or failed")

    def _answer(self, body: bytes, reason: str) -> Generator[ForwardedAnswer | bytes, None, None]:
        """The head of the answer, then the pieces of its body; closing it hangs up. Its receipt is written at its
        end."""
        server, so_far, is_last = self._server, self._so_far, self._server is self._servers[-1]
        if server.limits.context is not None:
            require_room_for(texts(body), server.limits.context, f"the context of {server.name}")
        address, timing = address_of(server), timing_of(server.limits)
        host, tls = host_of(server.url), server.url.startswith("https:")
        self._listener.leaving(server, host, reason)

        sealed = sealed_for(address)

        def sent(count: int) -> None:
            so_far.sent(count, host, tls=tls, sealed=sealed)

        def passes_on(status: int) -> bool:
            return is_last and REFUSED <= status < FAILED and status != TOO_MANY

        with (
            suppress(_RefusedError),
            recorded(server, self._why, so_far, self._listener),
            noted(server, self._servers),
            forwarded(address, body, timing=timing, on_sent=sent, passes_on=passes_on) as answer,
        ):
            yield answer
            if answer.status >= REFUSED:
                yield from answer.pieces
                raise _RefusedError(f"{host} refused the request ({answer.status})")
            for piece in answer.pieces:
                so_far.first_token = so_far.first_token or time.perf_counter()
                yield piece


def _body(answer: Generator[ForwardedAnswer | bytes, None, None]) -> Generator[bytes, None, None]:
    with closing(answer):
        for piece in answer:
            assert isinstance(piece, bytes), "nothing but the body comes after the head"
            yield piece
