"""From what a model writes between the marks of a tool call to the calls, in the ways that families of models use."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from llmctl.engine.llama_cpp.conversation import Tools

DECODER = json.JSONDecoder()
BETWEEN = re.compile(r"[\s,;]*")
NAMES = ("name", "tool_name", "function")
ARGUMENTS = ("arguments", "parameters", "args")
FUNCTION = re.compile(r"\s*<function=([^>\s]+)>(.*?)</function>\s*", re.DOTALL)
PARAMETER = re.compile(r"\s*<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
KEY_AND_VALUE = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)
GEMMA_TEXT = re.compile(r'<\|"\|>(.*?)<\|"\|>|<escape>(.*?)<escape>', re.DOTALL)
GEMMA_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.-]*)\s*:")
GEMMA_CALL = re.compile(r"\s*call:([\w.:-]+)\s*(\{.*\})\s*", re.DOTALL)


class Call(Struct, frozen=True):
    name: str
    arguments: Mapping[str, Any]


class UnreadableError(Exception):
    """It is no call, or not a whole one."""


Reader = Callable[[str, Tools], list[Call]]


def read_json(body: str, tools: Tools) -> list[Call]:
    """Objects with a name and arguments, one behind the other or in a list. Raises UnreadableError."""
    calls: list[Call] = []
    at = _behind(BETWEEN, body, 0)
    while at < len(body):
        value, at = _decoded(body, at)
        calls += [_call(item) for item in (value if isinstance(value, list) else [value])]
        at = _behind(BETWEEN, body, at)
    return calls


def read_json_of_tools(body: str, tools: Tools) -> list[Call]:
    """As ``read_json``, where no mark says that it is a call: only the names of tools are. Raises UnreadableError."""
    calls = read_json(body, tools)
    if not all(call.name in tools.names for call in calls):
        raise UnreadableError
    return calls


def named(head: str, tail: str = "") -> Reader:
    """Reads calls whose name stands in front of the JSON of their arguments: the regular expressions say what is
    around both."""
    front, behind = re.compile(head, re.DOTALL), re.compile(tail)

    def read(body: str, tools: Tools) -> list[Call]:
        if body.lstrip()[:1] in ("[", "{"):
            return read_json(body, tools)
        calls: list[Call] = []
        at = 0
        while body[at:].strip():
            match = front.match(body, at)
            if match is None:
                raise UnreadableError
            value, at = _decoded(body, match.end())
            calls.append(_call({"name": match["name"], "arguments": value}))
            at = _behind(behind, body, at)
        return calls

    return read


def read_tagged(body: str, tools: Tools) -> list[Call]:
    """What stands in ``<tool_call>``: JSON, or tags for the function and its parameters. Raises UnreadableError."""
    if "<arg_key>" in body:
        name, _, _ = body.partition("<arg_key>")
        rest = body[len(name) :]
        return [_typed(name.strip(), _all(KEY_AND_VALUE, rest), tools)]
    if "<function=" not in body:
        inner = body.strip()
        return [Call(inner, {})] if inner in tools.names else read_json(body, tools)
    calls = []
    for name, inner in _all(FUNCTION, body):
        if inner.strip().startswith("{"):
            calls.append(_call({"name": name, "arguments": _decoded(inner.strip(), 0)[0]}))
        else:
            calls.append(_typed(name, _all(PARAMETER, inner), tools))
    return calls


def read_python(body: str, tools: Tools) -> list[Call]:
    """A list of calls as Python writes them, with nothing but values in them. Raises UnreadableError."""
    try:
        tree = ast.parse(body.strip(), mode="eval").body
        return [_python_call(node) for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UnreadableError from error


def _python_call(node: ast.expr) -> Call:
    """Raises ValueError."""
    if not isinstance(node, ast.Call) or node.args or not all(word.arg for word in node.keywords):
        raise ValueError("no call")
    return Call(ast.unparse(node.func), {str(word.arg): ast.literal_eval(word.value) for word in node.keywords})


def read_gemma(body: str, tools: Tools) -> list[Call]:
    """``call:name{key:<|"|>text<|"|>,number:5}``. Raises UnreadableError."""
    match = GEMMA_CALL.fullmatch(body)
    if match is None or "\0" in body:
        raise UnreadableError
    texts: list[str] = []

    def keep(text: re.Match[str]) -> str:
        texts.append(text[1] if text[1] is not None else text[2])
        return f'"\0{len(texts) - 1}"'

    bare = GEMMA_KEY.sub(r'\1"\2":', GEMMA_TEXT.sub(keep, match[2]))
    as_json = re.sub(r'"\0(\d+)"', lambda number: json.dumps(texts[int(number[1])]), bare)
    value, end = _decoded(as_json, 0)
    if as_json[end:].strip():
        raise UnreadableError
    return [_call({"name": match[1], "arguments": value})]


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise UnreadableError from error


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _all(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """The groups of matches that follow each other and leave nothing out."""
    at = 0
    while text[at:].strip():
        match = pattern.match(text, at)
        if match is None:
            raise UnreadableError
        yield match[1], match[2]
        at = match.end()


def _call(item: Any) -> Call:
    if not isinstance(item, dict):
        raise UnreadableError
    if isinstance(item.get("function"), dict):  # as OpenAI writes it
        item = item["function"]
    name = next((item[key] for key in NAMES if isinstance(item.get(key), str)), "")
    arguments: Any = next((item[key] for key in ARGUMENTS if key in item), {})
    if isinstance(arguments, str):  # written as JSON once more
        arguments, _ = _decoded(arguments, 0)
    if not name or not isinstance(arguments, dict):
        raise UnreadableError
    return Call(name, arguments)


def _typed(name: str, values: Iterator[tuple[str, str]], tools: Tools) -> Call:
    """Values that are written without quotes, by the tool's schema: what isn't a text there is JSON."""
    function = next((function for function in tools.functions if function["name"] == name), None)
    properties = {} if function is None else function["parameters"].get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    return Call(name, {key: _value(text, schemas.get(key)) for key, text in values})


def _value(text: str, schema: Any) -> Any:
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
