"""The form that an answer is to have, from the command line: JSON, or JSON of a schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmctl.errors import UsageError
from llmctl.printable import printable

if TYPE_CHECKING:
    from llmctl.types.request import ResponseFormat

EXAMPLE = """llmctl run --schema '{"type": "object", "properties": {"name": {"type": "string"}}}' …"""


def response_format(schema: str | None, *, json_object: bool) -> ResponseFormat | None:
    """``schema`` is JSON itself or a file with it. Raises UsageError for both at once and for what is no schema, and
    what reading a file raises."""
    from llmctl.types.request import JsonObject, JsonSchema

    if schema is None:
        return JsonObject() if json_object else None
    if json_object:
        raise UsageError("--schema and --json-object exclude each other: a schema says more")
    return JsonSchema(_schema(schema))


def _schema(given: str) -> dict[str, Any]:
    from llmctl.workspace import context_files

    is_text = given.lstrip().startswith("{")
    where = "--schema" if is_text else f"--schema {printable(given)}"
    text = given if is_text else context_files.read(given).text
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", hint=EXAMPLE) from error
    if not isinstance(schema, dict):
        raise UsageError(f"{where} is not a JSON schema: it must be an object", hint=EXAMPLE)
    return schema


def is_json(text: str) -> bool:
    """Whether an answer is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
