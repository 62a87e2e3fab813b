"""From a request that was read to its answer: a model is leased, its engine asked, and its answer passed on."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing

from msgspec import Struct
from starlette.datastructures import Headers

from llmctl.errors import AccessError, DecodingError, LlmctlError
from llmctl.server.behind import Models
from llmctl.server.blocking import BlockingCalls
from llmctl.server.client import ClientLeftError, Receive, Scope, Send, Sender, read_body, while_connected
from llmctl.server.errors import UNEXPECTED, Problem, ProblemError, problem_of, speaks_anthropic
from llmctl.server.exchange import GatewayExchange, exchange_of
from llmctl.server.token_count import UNKNOWN, counted
from llmctl.server.upstream import EngineAnswer, Upstream, refused
from llmctl.server.wire.anthropic_request import COUNT
from llmctl.server.wire.shape import AnswerWriter, ModelRequest

LOG = logging.getLogger("llmctl.gateway")
PING_S = 10.0
PRIVATE = "x-llmctl-private"
ANY = "auto"  # the model that is meant where none is named
KEY_REFUSED = (401, 402, 403)
LEFT = 499  # the status, for those who count, of a request whose client went away


class Behind(Struct, frozen=True):
    """What answers, for all routes of one gateway. ``ping_s``: for so long nothing may be heard of an answer."""

    models: Models
    upstream: Upstream
    threads: BlockingCalls
    ping_s: float = PING_S


class ModelRoute:
    """An ASGI application that answers requests of one kind, which ``read`` reads."""

    def __init__(self, behind: Callable[[], Behind], read: Callable[[bytes], ModelRequest]) -> None:
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
        except Exception as error:  # noqa: BLE001  # a bug of ours
            await sender.fail(_unexpected(sender.request_id, error))
            return
        answering = RunningRequest(self._behind(), asked, sender, exchange, is_private=_is_private(scope))
        if not await while_connected(receive, answering.run()):
            exchange.status = LEFT


def _unexpected(request_id: str, error: Exception) -> Problem:
    """Logs where it happened; what it says may hold a part of a prompt."""
    where = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("%s: %s\n%s", request_id, type(error).__name__, where)
    return UNEXPECTED


def _is_private(scope: Scope) -> bool:
    return Headers(scope=scope).get(PRIVATE, "0") not in ("", "0", "false")


class RunningRequest:
    """One request on its way."""

    def __init__(
        self, behind: Behind, asked: ModelRequest, sender: Sender, exchange: GatewayExchange, *, is_private: bool
    ) -> None:
        self._behind, self._asked, self._sender, self._exchange = behind, asked, sender, exchange
        self._is_private = is_private
        self._wanted = asked.model or ANY  # as the client calls it
        self._writer: AnswerWriter | None = None
        self._pieces = 0  # of a stream, that were passed on: an answer that is broken off had as many tokens at least

    async def run(self) -> None:
        """Whatever fails is told to the client."""
        try:
            name = self._allowed_model()
            self._writer = writer = self._asked.writer(name)
            async with self._kept_alive(writer):
                await self._answer(name, writer)
        except ProblemError as error:
            await self._fail(error.problem)
        except LlmctlError as error:
            await self._fail(problem_of(error))
        except Exception as error:  # noqa: BLE001  # a bug of ours must not end in silence, nor tell a prompt
            await self._fail(_unexpected(self._sender.request_id, error))
        finally:
            if self._writer is not None:
                usage = self._writer.usage
                self._exchange.prompt_tokens = usage.prompt_tokens
                self._exchange.completion_tokens = usage.completion_tokens or self._pieces or None

    async def _fail(self, problem: Problem) -> None:
        await self._sender.fail(problem, self._writer)

    def _allowed_model(self) -> str:
        """The name of the model that is meant. Raises NotFoundError, ProblemError."""
        name = self._behind.models.resolved(self._wanted)
        self._exchange.model = name
        if not self._exchange.may_use(name):
            raise ProblemError(Problem(403, "model_not_allowed", f"this token may not use the model {name}", "model"))
        return name

    @asynccontextmanager
    async def _kept_alive(self, writer: AnswerWriter) -> AsyncGenerator[None, None]:
        if not self._asked.streams:
            yield
            return
        pinging = asyncio.ensure_future(self._sender.keep_alive(writer, self._behind.ping_s))
        try:
            yield
        finally:
            pinging.cancel()

    async def _answer(self, name: str, writer: AnswerWriter) -> None:
        try:
            await self._answer_here(name, writer)
        except LlmctlError as error:
            if self._pieces or not await self._answered_elsewhere(error, writer):
                raise

    async def _answer_here(self, name: str, writer: AnswerWriter) -> None:
        models, asked = self._behind.models, self._asked
        client = self._exchange.client
        lease = models.lease_now(name, client) or await self._behind.threads.lease(models, name, client)
        with closing(lease):
            body = asked.body(lease.address.model, lease.sampling)
            async with self._behind.upstream.ask(lease, asked.path, body) as answer:
                if asked.path == COUNT and answer.status == UNKNOWN:
                    count = await counted(self._behind.upstream, lease, body)
                    await self._sender.document(writer.whole(count))
                    return
                try:
                    await self._pass_on(answer, writer)
                except DecodingError as error:
                    raise await self._behind.threads.run(lease.failure, error) from error

    async def _answered_elsewhere(self, error: LlmctlError, writer: AnswerWriter) -> bool:
        name, run = self._wanted, self._behind.threads.run
        handover = await run(self._behind.models.elsewhere, error, self._is_private, name)
        if handover is None:
            return False
        self._exchange.route = handover.name
        self._sender.headers = handover.headers  # a ping may have to send them before the server has answered
        writer.by_another_server()
        path, body = self._asked.path, self._asked.body(self._wanted, None)
        async with self._behind.upstream.hand_over(handover, path, body) as answer:
            self._sender.headers = handover.headers
            if answer.status in KEY_REFUSED:  # the gateway's own key, not its client's token
                raise AccessError(f"{handover.name} refused the key ({answer.status})", hint="llmctl endpoint list")
            await self._pass_on(answer, writer)
        return True

    async def _pass_on(self, answer: EngineAnswer, writer: AnswerWriter) -> None:
        """Raises LlmctlError and ProblemError."""
        if answer.status != 200:
            raise await refused(answer)
        if not self._asked.streams:
            document = writer.whole(b"".join([piece async for piece in answer.pieces]))
            await self._sender.document(document)
            return
        async for piece in answer.pieces:
            self._sender.open(writer)
            said = writer.feed(piece)
            self._pieces += 1
            await self._sender.event(said)
        await self._sender.event(writer.end())
        await self._sender.end()
