"""A tool as it is served: what it takes and gives, by which schemas, and what answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from mcp.types import Tool, ToolAnnotations
from msgspec import Meta, Struct

from llmctl.mcp.call import CallListener

Name = Annotated[str, Meta(min_length=1, max_length=4096)]
Count = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]  # llama.cpp counts tokens in 32 bits


class ServedTool(Struct, frozen=True):
    """``answer`` takes an ``arguments``, makes a ``result`` and raises the errors of ``llmctl.errors``. ``computes``: a
    model is loaded for it, and the next answer may be another one. ``asks_servers``: of the user's, it may."""

    name: str
    title: str
    description: str
    arguments: type[Struct]
    result: type[Struct]
    answer: Callable[[Any, CallListener], Struct]
    computes: bool = False
    asks_servers: bool = False

    def described(self) -> Tool:
        """The tool as the protocol lists it."""
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schema_of(self.arguments),
            output_schema=schema_of(self.result),
            annotations=ToolAnnotations(
                read_only_hint=not self.computes,
                destructive_hint=False,
                idempotent_hint=not self.computes,
                open_world_hint=self.asks_servers,
            ),
        )


def schema_of(kind: type[Struct]) -> dict[str, Any]:
    """The JSON schema of a struct, an object at its root, as the protocol wants it."""
    _, definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own: Mapping[str, Any] = definitions.pop(kind.__name__)
    return {**own, "$defs": definitions} if definitions else dict(own)
