"""From a request that was read to its answer: a model is leased, its engine asked, and its answer passed on."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import closing

from msgspec import Struct
from starlette.datastructures import Headers

from llmctl.errors import ContextError, DecodingError, LlmctlError
from llmctl.server.behind import Models
from llmctl.server.client import ClientLeftError, Receive, Scope, Send, Sender, read_body, while_connected
from llmctl.server.errors import UNEXPECTED, Problem, ProblemError, problem_of, speaks_anthropic
from llmctl.server.exchange import Exchange, exchange_of
from llmctl.server.threads import Threads
from llmctl.server.upstream import Answer, Upstream
from llmctl.server.wire.shape import Asked, Reply

LOG = logging.getLogger("llmctl.gateway")
PING_S = 10.0
PAGE_LIMIT_BYTES = 64 << 10
PRIVATE = "x-llmctl-private"
LEFT = 499  # the status, for those who count, of a request whose client went away


class Behind(Struct, frozen=True):
    """What answers, for all routes of one gateway. ``ping_s``: for so long nothing may be heard of an answer."""

    models: Models
    upstream: Upstream
    threads: Threads
    ping_s: float = PING_S


class Route:
    """An ASGI application that answers requests of one kind, which ``read`` reads."""

    def __init__(self, behind: Callable[[], Behind], read: Callable[[bytes], Asked]) -> None:
        self._behind, self._read = behind, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        sender = Sender(send, scope, exchange, anthropic=speaks_anthropic(scope))
        try:
            asked = self._read(await read_body(receive))
        except ProblemError as error:
            await sender.fail(error.problem)
            return
        except ClientLeftError:
            exchange.status = LEFT
            return
        answering = Answering(self._behind(), asked, sender, exchange, is_private=_is_private(scope))
        if not await while_connected(receive, answering.run()):
            exchange.status = LEFT


def _is_private(scope: Scope) -> bool:
    return Headers(scope=scope).get(PRIVATE, "0") not in ("", "0", "false")


class Answering:
    """One request on its way."""

    def __init__(self, behind: Behind, asked: Asked, sender: Sender, exchange: Exchange, *, is_private: bool) -> None:
        self._behind, self._asked, self._sender, self._exchange = behind, asked, sender, exchange
        self._is_private = is_private
        self._reply: Reply = asked.reply(asked.model)
        self._has_answered = False

    async def run(self) -> None:
        """Whatever fails is told to the client."""
        pinging = None
        if self._asked.streams:
            pinging = asyncio.ensure_future(self._sender.keep_alive(self._reply, self._behind.ping_s))
        try:
            await self._answer()
        except ProblemError as error:
            await self._fail(error.problem)
        except LlmctlError as error:
            await self._fail(problem_of(error))
        except Exception as error:  # noqa: BLE001  # a bug of ours must not end in silence, nor tell a prompt
            LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            await self._fail(UNEXPECTED)
        finally:
            if pinging is not None:
                pinging.cancel()
            usage = self._reply.usage
            self._exchange.prompt_tokens, self._exchange.completion_tokens = (
                usage.prompt_tokens,
                usage.completion_tokens,
            )

    async def _fail(self, problem: Problem) -> None:
        await self._sender.fail(problem, self._reply)

    async def _answer(self) -> None:
        name = self._behind.models.resolved(self._asked.model)
        self._exchange.model = name
        if not self._exchange.may_use(name):
            raise ProblemError(Problem(403, "model_not_allowed", f"this token may not use the model {name}", "model"))
        try:
            await self._answer_here(name)
        except LlmctlError as error:
            if self._has_answered or not await self._answered_elsewhere(error):
                raise

    async def _answer_here(self, name: str) -> None:
        models, asked = self._behind.models, self._asked
        client = self._exchange.client
        lease = models.lease_now(name, client) or await self._behind.threads.lease(models, name, client)
        with closing(lease):
            body = asked.body(lease.address.model, lease.sampling)
            async with self._behind.upstream.ask(lease, asked.path, body) as answer:
                try:
                    await self._pass_on(answer)
                except DecodingError as error:
                    raise await self._behind.threads.run(lease.failure, error) from error

    async def _answered_elsewhere(self, error: LlmctlError) -> bool:
        handover = await self._behind.threads.run(self._behind.models.elsewhere, error, self._is_private)
        if handover is None:
            return False
        self._exchange.route = handover.name
        self._sender.headers = handover.headers
        asked = self._asked
        async with self._behind.upstream.hand_over(handover, asked.path, asked.body(asked.model, {})) as answer:
            await self._pass_on(answer)
        return True

    async def _pass_on(self, answer: Answer) -> None:
        """Raises LlmctlError and ProblemError."""
        if answer.status != 200:
            raise await _refused(answer)
        reply, sender = self._reply, self._sender
        if not self._asked.streams:
            document = reply.whole(b"".join([piece async for piece in answer.pieces]))
            self._has_answered = True
            await sender.document(document)
            return
        async for piece in answer.pieces:
            self._has_answered = True
            await sender.event(reply, reply.feed(piece))
        await sender.event(reply, reply.end())
        await sender.end()


async def _refused(answer: Answer) -> Exception:
    """Why an engine gives no answer, from its error in OpenAI's shape."""
    page = bytearray()
    async for piece in answer.pieces:
        page += piece[: PAGE_LIMIT_BYTES - len(page)]
    try:
        said = json.loads(page)["error"]
        code, message, param = str(said["code"]), str(said["message"]), said.get("param")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        code, message, param = "engine", f"the engine answered {answer.status}", None
    if code == "context_length_exceeded":
        return ContextError(message)
    if code == "decoding":
        return DecodingError(message)
    again = answer.headers.get("Retry-After", "")
    return ProblemError(Problem(answer.status, code, message, param, float(again) if again.isdecimal() else None))
