"""A function that a model asks for."""

from __future__ import annotations

from msgspec import Struct


class ToolCall(Struct, frozen=True):
    """``arguments`` is the JSON that the model wrote: nobody has checked that it is any."""

    id: str
    name: str
    arguments: str
