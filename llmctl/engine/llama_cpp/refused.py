"""A request that the worker can't serve."""

from __future__ import annotations


class RefusedError(Exception):
    """The HTTP status, an OpenAI error code and a message, which names the field."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "code": code}}


def invalid(message: str) -> RefusedError:
    """The client's mistake: a 400."""
    return RefusedError(400, "invalid_request", message)
