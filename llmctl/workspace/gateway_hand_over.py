"""What a gateway hands over to the user's own servers where its policy lets it, with a receipt of what has left."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing

from llmctl.endpoint.forwarding import CHAT_PATH, ForwardedAnswer, forwarded, with_model
from llmctl.endpoint.secrets import address_of
from llmctl.endpoint.timing import timing_of
from llmctl.errors import LlmctlError, UsageError
from llmctl.net import host_of
from llmctl.router.partial_answer import PartialAnswer
from llmctl.router.receipts import recorded
from llmctl.router.route import first_allowed, reason_of, refused_as_private
from llmctl.settings import Settings
from llmctl.types.endpoint import Endpoint, LeaveReason, Policy
from llmctl.types.listener import Listener
from llmctl.workspace.served_models import AUTO

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
    def server(self) -> Endpoint | None:
        """The one that may be asked, if any may."""
        settings = self._settings
        return first_allowed(settings.policy, settings.endpoints, offline=settings.offline)

    def to_server(self, error: LlmctlError, *, private: bool, name: str) -> HandedOver | None:
        """What takes the request for the model ``name``, which has failed here with ``error``. A model that was asked
        for by its own name answers, or nothing does. Raises PolicyError for a private one that would leave."""
        why, server = reason_of(error, loaded=False), self.server
        if why is None or server is None or name.partition(":")[0] != AUTO:
            return None
        if private:
            raise refused_as_private(f"{error.message}, and it may not go to {server.name}")
        return HandedOver(server, why, error.message, self._listener)


class HandedOver:
    """One request on its way to ``server``. ``headers`` are complete once it was opened."""

    def __init__(self, server: Endpoint, why: LeaveReason, reason: str, listener: Listener) -> None:
        self._server, self._why, self._reason, self._listener = server, why, reason, listener
        self._so_far = PartialAnswer()

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def headers(self) -> Mapping[str, str]:
        """What the receipt says: who has got how many bytes, and why."""
        left = self._so_far.left
        return {
            "x-llmctl-route": self.name,
            "x-llmctl-host": host_of(self._server.url),
            "x-llmctl-model": self._server.model,
            "x-llmctl-left-because": self._why.value,
            "x-llmctl-bytes": str(0 if left is None else left.total_bytes),
        }

    def open(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        """Status, headers and body of the server's answer. Raises UsageError for what only this machine answers, and
        what ``endpoint.forwarding`` raises."""
        if path != CHAT_PATH:
            raise UsageError(f"{self._reason}; {self.name} is asked for chat completions alone")
        answer = self._answer(with_model(body, self._server.model))
        head = next(answer)
        assert isinstance(head, ForwardedAnswer), "the head comes first"
        return head.status, head.headers, _body(answer)

    def _answer(self, body: bytes) -> Generator[ForwardedAnswer | bytes, None, None]:
        """The head of the answer, then the pieces of its body; closing it hangs up. Its receipt is written at its
        end."""
        server, so_far = self._server, self._so_far
        address = address_of(server)
        host, tls = host_of(server.url), server.url.startswith("https:")
        self._listener.leaving(server, host, self._reason)

        def sent(count: int) -> None:
            so_far.sent(count, host, tls=tls)

        with (
            recorded(server, self._why, so_far, self._listener),
            forwarded(address, body, timing=timing_of(server.limits), on_sent=sent) as answer,
        ):
            yield answer
            for piece in answer.pieces:
                so_far.first_token = so_far.first_token or time.perf_counter()
                yield piece


def _body(answer: Generator[ForwardedAnswer | bytes, None, None]) -> Generator[bytes, None, None]:
    with closing(answer):
        for piece in answer:
            assert isinstance(piece, bytes), "nothing but the body comes after the head"
            yield piece
