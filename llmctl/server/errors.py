"""What can't be answered, as a status and a body in the shape that the caller reads."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec
from msgspec import Struct
from starlette.datastructures import Headers
from starlette.responses import Response

from llmctl.errors import (
    AccessError,
    ConfigError,
    ContextError,
    EngineError,
    IntegrityError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    NothingFitsError,
    OfflineError,
    PolicyError,
    ResourceError,
    UsageError,
)

INTERNAL = "internal"
STATUS: Mapping[type[LlmctlError], int] = {
    UsageError: 400,
    NothingFitsError: 503,
    NotFoundError: 404,
    NetworkError: 502,
    OfflineError: 503,
    IntegrityError: 503,
    ResourceError: 503,
    EngineError: 502,
    AccessError: 502,
    ConfigError: 503,
    PolicyError: 403,
}
"""Whatever isn't here is like the class that it is made of; the rest is a 500."""
TOO_MANY = "busy"  # the code of errors that mean 429
OPENAI_CODES = {ContextError.code: "context_length_exceeded", UsageError.code: "invalid_request"}
ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Problem(Struct, frozen=True):
    """``param`` is the field of the request that is wrong."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


class ProblemError(Exception):
    """A request can't be answered, for the reason ``problem``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid(param: str, why: str) -> ProblemError:
    """The client's mistake in the field ``param``; ``why`` goes on from its name."""
    return ProblemError(Problem(400, "invalid_request", f"{param} {why}", param))


def problem_of(error: LlmctlError) -> Problem:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    code = OPENAI_CODES.get(error.code, error.code)
    return Problem(
        429 if error.code == TOO_MANY else status,
        code,
        error.message,
        retry_after_s=getattr(error, "retry_after_s", None),
    )


UNEXPECTED = Problem(500, INTERNAL, "the gateway has failed; its log says where")


def openai_body(problem: Problem) -> dict[str, Any]:
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    kind = "rate_limit_error" if problem.status == 429 else kind
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


def anthropic_body(problem: Problem) -> dict[str, Any]:
    kind = ANTHROPIC_KINDS.get(problem.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": problem.message}}


def speaks_anthropic(scope: MutableMapping[str, Any]) -> bool:
    """Whether the caller reads errors and lists in Anthropic's shape."""
    path: str = scope["path"]
    return path == "/v1/messages" or path.startswith("/v1/messages/") or "anthropic-version" in Headers(scope=scope)


def response(problem: Problem, *, anthropic: bool, headers: Mapping[str, str] | None = None) -> Response:
    body = anthropic_body(problem) if anthropic else openai_body(problem)
    again = {} if problem.retry_after_s is None else {"retry-after": str(max(1, round(problem.retry_after_s)))}
    return Response(
        msgspec.json.encode(body), problem.status, {**again, **(headers or {})}, media_type="application/json"
    )


def refusal(
    scope: MutableMapping[str, Any],
    status: int,
    code: str,
    message: str,
    *,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request that isn't let through."""
    problem = Problem(status, code, message, retry_after_s=retry_after_s)
    return response(problem, anthropic=speaks_anthropic(scope), headers=headers)
