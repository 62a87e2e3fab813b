"""``/metrics``: how many requests and tokens, how fast, by model, as Prometheus reads it. No label holds text of a
client's: models are those of the gateway's own list, statuses are numbers."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import Route

from llmctl.server.exchange import GatewayExchange, exchange_of

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNCOUNTED = frozenset({"/health", "/metrics"})
FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
WHOLE_S = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """What the requests of one gateway come to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("llmctl_requests", "Requests that ended.", ["model", "status"], registry=self.registry)
        self._tokens = Counter("llmctl_tokens", "Tokens of those.", ["model", "kind"], registry=self.registry)
        self._first_token_s = _histogram("llmctl_first_token_seconds", "To an answer's begin.", FIRST_TOKEN_S, self)
        self._whole_s = _histogram("llmctl_request_seconds", "To an answer's end.", WHOLE_S, self)
        self._under_way: set[GatewayExchange] = set()
        self.registry.register(_UnderWay(self._under_way))

    def begin(self, exchange: GatewayExchange) -> None:
        self._under_way.add(exchange)

    def end(self, exchange: GatewayExchange, status: int | None, seconds: float) -> None:
        """``status`` is None where nothing was answered."""
        self._under_way.discard(exchange)
        model = exchange.model or ""
        self._requests.labels(model, str(exchange.status or status or "none")).inc()
        self._whole_s.labels(model).observe(seconds)
        if exchange.first_s is not None:
            self._first_token_s.labels(model).observe(exchange.first_s)
        for kind, tokens in (("prompt", exchange.prompt_tokens), ("completion", exchange.completion_tokens)):
            if tokens is not None:
                self._tokens.labels(model, kind).inc(tokens)

    def route(self) -> Route:
        async def metrics(_: Request) -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

        return Route("/metrics", metrics)


def _histogram(name: str, about: str, buckets_s: tuple[float, ...], metrics: Metrics) -> Histogram:
    return Histogram(name, about, ["model"], buckets=buckets_s, registry=metrics.registry)


class _UnderWay(Collector):
    """Requests that have no answer yet, waiting for room, a model or its first token; and those that are answered."""

    def __init__(self, under_way: set[GatewayExchange]) -> None:
        self._under_way = under_way

    def collect(self) -> Iterator[Metric]:
        waiting = Tally(exchange.model or "" for exchange in self._under_way if exchange.first_s is None)
        answering = Tally(exchange.model or "" for exchange in self._under_way if exchange.first_s is not None)
        yield _gauge("llmctl_requests_waiting", "Requests whose answer has not begun.", waiting)
        yield _gauge("llmctl_requests_answering", "Requests whose answer has begun.", answering)


def _gauge(name: str, about: str, by_model: Tally[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=["model"])
    for model, number in by_model.items():
        family.add_metric([model], number)
    return family


class CountRequests:
    """Notes in ``metrics`` what the application says of each request when it is done."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        exchange, began_s = exchange_of(scope), time.monotonic()
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.begin(exchange)
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.end(exchange, status, time.monotonic() - began_s)
