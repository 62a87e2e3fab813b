"""Tools in the shape of OpenAI's Responses, as those of chat completions, which have no namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from llmctl.server.errors import invalid

NOT_WANTED = ("web_search", "web_search_preview", "image_generation", "file_search", "code_interpreter")
"""Tools that OpenAI's own servers run. A model need not call a tool, so these are left out."""
DESCRIBED = ("name", "description", "parameters")
Tool = Mapping[str, Any]


class ToolName(Struct, frozen=True):
    """``namespace`` is empty for a tool that is in none."""

    name: str
    namespace: str = ""

    @property
    def in_chat(self) -> str:
        """What the model calls it."""
        return f"{self.namespace}__{self.name}" if self.namespace else self.name


def chat_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Those that a model may call. Raises ProblemError for a kind that isn't known."""
    return [_function(tool, name) for tool, name in _functions(tools)]


def names(tools: Sequence[Tool]) -> Mapping[str, ToolName]:
    """The tools in namespaces, by what the model calls them."""
    return {name.in_chat: name for _, name in _functions(tools) if name.namespace}


def _functions(tools: Sequence[Tool]) -> Iterator[tuple[Tool, ToolName]]:
    for at, tool in enumerate(tools):
        match tool.get("type"):
            case "function":
                yield tool, ToolName(_text(tool, "name", f"tools[{at}]"))
            case "namespace":
                yield from _in_namespace(tool, f"tools[{at}]")
            case kind if kind not in NOT_WANTED:
                raise invalid(f"tools[{at}].type", f"must be function or namespace, not {kind!a:.80}")


def _in_namespace(tool: Tool, place: str) -> Iterator[tuple[Tool, ToolName]]:
    namespace, inner = _text(tool, "name", place), tool.get("tools")
    if not isinstance(inner, list):
        raise invalid(f"{place}.tools", "must be a list of functions")
    for at, function in enumerate(inner):
        where = f"{place}.tools[{at}]"
        if not isinstance(function, dict) or function.get("type") != "function":
            raise invalid(f"{where}.type", "must be function")
        yield function, ToolName(_text(function, "name", where), namespace)


def _text(tool: Tool, field: str, place: str) -> str:
    value = tool.get(field)
    if not isinstance(value, str) or not value:
        raise invalid(f"{place}.{field}", "must be a text")
    return value


def _function(tool: Tool, name: ToolName) -> dict[str, Any]:
    described = {field: tool[field] for field in DESCRIBED if tool.get(field) is not None}
    return {"type": "function", "function": {**described, "name": name.in_chat}}
