"""Who is let in, by real requests to a real socket: every kind of token, host and page, in both shapes of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.server import listing
from llmctl.server.exchange import exchange_of
from llmctl.server.guards import Guard, guards
from llmctl.server.host_check import allowed_hosts, host_name
from llmctl.server.metrics import Metrics
from llmctl.workspace import tokens
from tests.fakes import guarded
from tests.fakes.gateway import Health, Models

TOKENS_OF_AN_ANSWER = 7


async def answer(request: Request) -> Response:
    """Says who asks, and whether that is one who may use the model."""
    exchange = exchange_of(request.scope)
    exchange.model, exchange.prompt_tokens, exchange.completion_tokens = "small", 3, TOKENS_OF_AN_ANSWER - 3
    return JSONResponse({"client": exchange.client, "may_use": [exchange.may_use(name) for name in ("small", "big")]})


def application(*, token_required: bool) -> Starlette:
    metrics = Metrics()
    allowed, nothing = allowed_hosts("127.0.0.1", ["box.lan"]), Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    stack = guards(Guard(allowed, tokens.KnownTokens().of, token_required, nothing), metrics)
    models = Models()
    models.health_now = Health(ready=False, loading=("small", "big"))
    paths = [Route(path, answer, methods=["GET", "POST", "OPTIONS"]) for path in ("/v1/x", "/v1/messages")]
    return Starlette(routes=[*paths, *listing.routes(models), metrics.route()], middleware=stack)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with guarded.listening(application(token_required=True)) as port:
        yield port


@pytest.fixture(scope="module")
def open_port() -> Iterator[int]:
    with guarded.listening(application(token_required=False)) as port:
        yield port


def ask(port: int, path: str = "/v1/x", token: str | None = None, **headers: str) -> requests.Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return requests.post(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10)


def test_a_token_lets_in(port: int) -> None:
    _, token = tokens.add("ci", models=["small"])
    assert ask(port, token=token).json() == {"client": "ci", "may_use": [True, False]}
    assert ask(port, **{"x-api-key": token}).json()["client"] == "ci"
    assert ask(port, token="placeholder", **{"x-api-key": token}).json()["client"] == "ci"
    assert ask(port, Authorization=f"bearer  {token} ").json()["client"] == "ci"


def test_without_one_nobody_gets_in(port: int) -> None:
    refused = ask(port)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    error = refused.json()["error"]
    assert error["code"] == "invalid_api_key" and "llmctl token add" in error["message"]


def wrong_tokens() -> dict[str, str]:
    _, good = tokens.add("good")
    _, expired = tokens.add("old", expires_s=0.001)
    _, revoked = tokens.add("gone")
    tokens.revoke("gone")
    return {"wrong": good[:-1] + ("a" if good[-1] != "a" else "b"), "expired": expired, "revoked": revoked}


@pytest.mark.parametrize(
    ("kind", "words"), [("wrong", "no such token"), ("revoked", "it was revoked"), ("expired", "the token old expired")]
)
@pytest.mark.parametrize("is_required", [True, False])
def test_tokens_that_open_nothing(port: int, open_port: int, kind: str, words: str, is_required: bool) -> None:
    """Not even where none is needed: whoever revokes a token means it."""
    token = wrong_tokens()[kind]
    refused = ask(port if is_required else open_port, token=token)
    assert refused.status_code == 401
    assert words in refused.json()["error"]["message"]
    assert token not in refused.text and token.removeprefix("llmctl-") not in refused.text


def test_a_revoked_token_of_a_running_gateway(port: int) -> None:
    _, token = tokens.add("ci")
    assert ask(port, token=token).status_code == 200
    tokens.revoke("ci")
    assert ask(port, token=token).status_code == 401


def test_anthropics_shape(port: int) -> None:
    refused = ask(port, "/v1/messages")
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    _, token = tokens.add("ci", requests_per_minute=1)
    assert ask(port, "/v1/messages", token).status_code == 200
    refused = ask(port, "/v1/messages", token)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")


@pytest.mark.parametrize(
    ("limit", "admitted"),
    [({"requests_per_minute": 3}, 3), ({"tokens_per_minute": TOKENS_OF_AN_ANSWER + 1}, 2)],
)
def test_limits(port: int, limit: dict[str, Any], admitted: int) -> None:
    _, token = tokens.add("ci", **limit)
    _, other = tokens.add("other", **limit)
    statuses = [ask(port, token=token).status_code for _ in range(admitted + 1)]
    assert statuses == [200] * admitted + [429]
    refused = ask(port, token=token)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert ask(port, token=other).status_code == 200  # each has its own


def test_a_gateway_of_this_machine_alone_needs_none(open_port: int) -> None:
    assert ask(open_port).json()["client"] == ""
    assert ask(open_port, token="sk-whatever-a-program-sends").json()["client"] == ""
    _, token = tokens.add("ci", requests_per_minute=1)
    assert ask(open_port, token=token).json()["client"] == "ci"
    assert ask(open_port, token=token).status_code == 429


def test_health_needs_no_token_and_metrics_do(port: int) -> None:
    assert health(port).keys() == {"status"}
    assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).status_code == 401


def health(port: int, token: str | None = None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"http://127.0.0.1:{port}/health", headers=headers, timeout=10)
    assert answer.status_code == 503 and answer.json()["status"] == "loading"
    return answer.json()


def test_who_may_see_which_models_are_loaded(port: int, open_port: int) -> None:
    """Strangers none: their names say what this machine is used for."""
    _, of_one = tokens.add("one", models=["small"])
    _, of_all = tokens.add("all")
    assert "loading" not in health(port, "llmctl-that-was-revoked")
    assert health(port, of_one)["loading"] == ["small"]
    assert health(port, of_all)["loading"] == health(open_port)["loading"] == ["small", "big"]


def test_a_broken_file_of_tokens_lets_nobody_in(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Those outside aren't told where it is."""
    _, token = tokens.add("ci")
    tokens.file().write_text("{")
    for _ in range(2):
        refused = ask(port, token=token)
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == "the gateway can't read its tokens: its log says why"
    assert [record.getMessage() for record in caplog.records if record.name == "llmctl.gateway"] == [
        f"nobody gets in: {tokens.file()} does not hold tokens as llmctl writes them"
    ]


OWN_HOSTS = ("127.0.0.1", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "box.lan", "box.lan.")
OTHER_HOSTS = (
    *("rebound.example:{port}", "127.0.0.1.rebound.example", "10.0.0.1", "0.0.0.0"),
    *("", "localhost:x", "a@localhost", "localhost/..", "localhost, evil.example", "[::1"),
)


@pytest.mark.parametrize(
    ("host", "is_allowed"), [*((host, True) for host in OWN_HOSTS), *((host, False) for host in OTHER_HOSTS)]
)
def test_hosts(open_port: int, host: str, is_allowed: bool) -> None:
    """A name that a page has bound to this machine's address is none of the gateway's."""
    answered = ask(open_port, Host=host.format(port=open_port))
    assert answered.status_code == (200 if is_allowed else 421)
    assert is_allowed or answered.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("bound", "host", "is_allowed"),
    [
        ("0.0.0.0", "10.1.2.3", True),
        ("::", "2001:db8::1", True),
        ("0.0.0.0", "rebound.example", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("box", "box", True),
        ("box", "llmctl.models.svc.cluster.local", True),
        ("box", "svc.cluster.local", False),
        ("box", "x.notsvc.cluster.local", False),
    ],
)
def test_the_bound_address(bound: str, host: str, is_allowed: bool) -> None:
    """A page's name is never an address, so any will do where the gateway listens at all of them."""
    allowed = allowed_hosts(bound, [".svc.cluster.local"])
    assert (host in allowed) == is_allowed
    assert "localhost" in allowed


@pytest.mark.parametrize(("header", "name"), [("[::1]:8", "::1"), ("A.b:80", "a.b"), (":80", None), ("a b", "a b")])
def test_host_name(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("http://127.0.0.1:{port}", True),
        ("https://127.0.0.1:{port}", False),
        ("http://127.0.0.1", False),
        ("http://localhost:{port}", False),
        ("https://page.example", False),
        ("null", False),
    ],
)
def test_pages(open_port: int, origin: str, is_allowed: bool) -> None:
    answered = ask(open_port, Origin=origin.format(port=open_port))
    assert answered.status_code == (200 if is_allowed else 403)
    assert "access-control-allow-origin" not in answered.headers


def test_a_preflight_is_refused(open_port: int) -> None:
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    answered = requests.options(f"http://127.0.0.1:{open_port}/v1/x", headers=headers, timeout=10)
    assert answered.status_code == 403
    assert not any(name.lower().startswith("access-control") for name in answered.headers)


def test_metrics(open_port: int) -> None:
    ask(open_port)
    ask(open_port, "/v1/no such thing")
    page = requests.get(f"http://127.0.0.1:{open_port}/metrics", timeout=10).text
    assert 'llmctl_requests_total{model="small",status="200"}' in page
    assert 'llmctl_requests_total{model="",status="404"}' in page
    assert 'llmctl_tokens_total{kind="completion",model="small"}' in page
    assert 'llmctl_request_seconds_count{model="small"}' in page
    assert "no such thing" not in page
