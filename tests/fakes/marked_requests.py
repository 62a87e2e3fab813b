"""Requests to a gateway that hold a mark, which must be nowhere afterwards: good ones, and such as are refused."""

from __future__ import annotations

from typing import Any

MARK_END = "-of-the-search"
Request = tuple[str, Any, dict[str, str]]
"""Its path, its body (bytes, or what is to be JSON) and headers."""


def marked(number: int) -> Request:
    """One of the ways in turn, each time with a mark of its own."""
    ways = requests_of(f"Marked-{number}{MARK_END}")
    return ways[number % len(ways)]


def requests_of(mark: str) -> list[Request]:
    messages = {"model": "auto", "messages": [{"role": "user", "content": mark}]}
    claude = {"model": "auto", "max_tokens": 4, **messages}
    return [
        ("/v1/chat/completions", messages, {}),
        ("/v1/chat/completions", {**messages, "stream": True}, {}),
        ("/v1/messages", {**claude, "stream": True}, {"x-api-key": mark}),
        ("/v1/responses", {"model": "auto", "input": mark}, {"Authorization": f"Bearer {mark}"}),
        ("/v1/completions", {"model": "auto", "prompt": mark}, {}),
        ("/v1/chat/completions", {**messages, "messages": [{"role": "user", "content": mark * 900}]}, {}),
        ("/v1/chat/completions", {**messages, "model": mark}, {}),
        ("/v1/chat/completions", {**messages, mark: 1}, {}),
        ("/v1/chat/completions", {**messages, "response_format": {"type": "json_schema", "json_schema": mark}}, {}),
        ("/v1/chat/completions", f'{{"messages": "{mark}'.encode(), {}),
        (f"/v1/{mark}", messages, {"User-Agent": mark, "X-Request-Id": mark}),
        (f"/v1/models/{mark}?{mark}", messages, {"Host": mark}),
        ("/tokenize", {"content": mark}, {"Origin": f"https://{mark}"}),
    ]
