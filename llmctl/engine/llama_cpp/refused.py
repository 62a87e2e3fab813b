"""A request that the worker can't serve."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """The HTTP status, an OpenAI error code and a message, which names the field; ``param`` is that of a text among
    several."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, code, message, param)


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(message: str) -> RefusedError:
    """The client's mistake: a 400."""
    return RefusedError(400, "invalid_request", message)
