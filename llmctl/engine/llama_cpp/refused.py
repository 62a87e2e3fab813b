"""A request that the worker can't serve."""

from __future__ import annotations


class RefusedError(Exception):
    """The HTTP status, an OpenAI error code and a message, which names the field; ``param`` is that of a text among
    several."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "code": code, **({} if param is None else {"param": param})}}


def invalid(message: str) -> RefusedError:
    """The client's mistake: a 400."""
    return RefusedError(400, "invalid_request", message)
