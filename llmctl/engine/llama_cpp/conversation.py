"""The messages and tools of a request, as a chat template is given them; every field is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.pictures import MARKER, is_picture
from llmctl.engine.llama_cpp.refused import invalid

ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_TOOLS = 128
LONGEST_NAME = 128
NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}")
TOOL_FIELDS = ("name", "description", "parameters", "strict")


class Choose(StrEnum):
    """Whether the answer may, or must, call tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class Tools(Struct, frozen=True):
    """``definitions`` as OpenAI has them. ``only``: the name of the one that must be called."""

    definitions: tuple[Mapping[str, Any], ...] = ()
    choose: Choose = Choose.NONE
    only: str | None = None

    @property
    def functions(self) -> Sequence[Mapping[str, Any]]:
        return [definition["function"] for definition in self.definitions]

    @property
    def callable(self) -> Sequence[Mapping[str, Any]]:
        """The functions that the answer may call."""
        return [function for function in self.functions if self.only in (None, function["name"])]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(function["name"] for function in self.functions)


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Their contents as texts, in which MARKER stands for a picture. Raises RefusedError."""
    if not isinstance(value, list) or not value:
        raise invalid("messages must be a list of objects that isn't empty")
    return [_message(message, f"messages[{at}]") for at, message in enumerate(value)]


def goes_on(
    messages: Sequence[Mapping[str, Any]], *, continues: bool | None, adds_prompt: bool | None, has_form: bool
) -> bool:
    """Whether the answer goes on with the last message, an assistant's that has a text: unless the request says
    otherwise, as llama-server does. ``continues`` and ``adds_prompt`` are what vLLM calls ``continue_final_message``
    and ``add_generation_prompt``; ``has_form``: the answer has a form to keep, which would begin anew. Raises
    RefusedError."""
    if continues is not None and continues == adds_prompt:
        raise invalid("add_generation_prompt must be the opposite of continue_final_message")
    asked, last = continues if adds_prompt is None else not adds_prompt, messages[-1]
    is_begun = last["role"] == "assistant" and bool(last["content"].strip()) and "tool_calls" not in last
    if asked and not is_begun:
        raise invalid("continue_final_message needs a last message of the role assistant with a text")
    if asked and has_form:
        raise invalid("continue_final_message can't be had together with response_format, grammar or a required tool")
    return is_begun and not has_form and asked is not False


def _message(message: Any, name: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise invalid(f"{name} must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{name}.role must be one of {', '.join(ROLES)}")
    fields = {key: value for key, value in message.items() if key not in ("role", "content") and value}
    read: dict[str, Any] = {
        "role": role,
        "content": _content(message.get("content"), f"{name}.content", calls="tool_calls" in fields),
    }
    for key, value in fields.items():
        if key == "tool_calls" and role == "assistant":
            read[key] = _calls(value, f"{name}.{key}")
        elif key == "name" or (key, role) in (("tool_call_id", "tool"), ("reasoning_content", "assistant")):
            read[key] = _text(value, f"{name}.{key}")
        else:
            raise invalid(f"{name}.{key!a:.80} is not supported by this engine in a message of the role {role}")
    return read


def _content(value: Any, name: str, *, calls: bool) -> str:
    if value is None and calls:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid(f"{name} must be a text or a list of parts")
    for at, part in enumerate(value):
        if is_picture(part):
            continue
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise invalid(f"{name}[{at}] must be a part with a text or an image: this engine reads nothing else")
    return "".join(MARKER if is_picture(part) else part["text"] for part in value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"{name} must be a text")
    return value


def _calls(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise invalid(f"{name} must be a list")
    return [_call(call, f"{name}[{at}]") for at, call in enumerate(value)]


def _call(call: Any, name: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise invalid(f"{name} must be an object with a function")
    called = {
        "name": _text(function.get("name"), f"{name}.function.name"),
        "arguments": _arguments(function.get("arguments", "{}"), f"{name}.function.arguments"),
    }
    identity = {"id": _text(call["id"], f"{name}.id")} if call.get("id") is not None else {}
    return {**identity, "type": "function", "function": called}


def _arguments(value: Any, name: str) -> Any:
    """As an object, which is what templates write; a text that is none stays one: the model had written it so."""
    if isinstance(value, dict):
        return value
    try:
        read = json.loads(_text(value, name) or "{}")
    except (ValueError, RecursionError):
        return value
    return read if isinstance(read, dict) else value


def read_tools(tools: Any, choice: Any) -> Tools:
    """``None`` for a field that isn't given. Raises RefusedError."""
    if not isinstance(tools, list | None) or len(tools or ()) > MOST_TOOLS:
        raise invalid(f"tools must be a list of at most {MOST_TOOLS}")
    definitions = tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools or ()))
    names = [definition["function"]["name"] for definition in definitions]
    if repeated := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise invalid(f"tools: {repeated!a:.80} is there more than once")
    if isinstance(choice, dict):
        return Tools(definitions, Choose.REQUIRED, _only(choice, names))
    if choice is not None and choice not in list(Choose):
        raise invalid(f"tool_choice must be none, auto, required or a function, not {choice!a:.80}")
    if choice == Choose.REQUIRED and not definitions:
        raise invalid("tool_choice: required needs tools")
    return Tools(definitions, Choose(choice or Choose.AUTO)) if definitions else Tools()


def _only(choice: Mapping[str, Any], names: Sequence[str]) -> str:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise invalid("tool_choice must be none, auto, required or a function with its name")
    if name not in names:
        raise invalid(f"tool_choice: {name!a:.80} is none of the tools")
    return name


def _tool(tool: Any, name: str) -> Mapping[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise invalid(f"{name} must be an object of the type function, with a function")
    called = function.get("name")
    if not isinstance(called, str) or not NAME.fullmatch(called):
        raise invalid(f"{name}.function.name must be letters, digits, _, - or ., at most {LONGEST_NAME} of them")
    if not isinstance(function.get("description"), str | None):
        raise invalid(f"{name}.function.description must be a text")
    if not isinstance(function.get("parameters"), dict | None):
        raise invalid(f"{name}.function.parameters must be a JSON schema")
    given = {key: function[key] for key in TOOL_FIELDS if function.get(key) is not None}
    if unknown := [key for key in function if key not in TOOL_FIELDS]:
        raise invalid(f"{name}.function.{unknown[0]!a:.80} is not a field that this engine knows")
    return {"type": "function", "function": {"description": "", "parameters": {"type": "object"}, **given}}
