"""The types of JSON schemas: which keywords each has, and what they say of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil, floor
from typing import Any, TypeGuard

from llmctl.engine.llama_cpp import gbnf as rules_of
from llmctl.engine.llama_cpp.gbnf import NotPossibleError

ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", "$defs", "definitions", "strict", "contentMediaType"),
    }
)
KEYWORDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
PYTHON: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def implied(schema: Mapping[str, Any]) -> str | None:
    """The type that is meant where keywords of one stand without it."""
    return next((kind for kind, keywords in KEYWORDS.items() if keywords & schema.keys()), None)


def of_kind(schema: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    keywords = KEYWORDS.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
    return {"type": kind, **{key: value for key, value in schema.items() if key in keywords}}


def is_of(value: Any, kinds: Any) -> bool:
    names = kinds if isinstance(kinds, list) else [kinds]
    return any(
        isinstance(name, str)
        and isinstance(value, PYTHON.get(name, ()))
        and (name == "boolean") == isinstance(value, bool)
        for name in names
    )


def number(schema: Mapping[str, Any], kind: str) -> str:
    """Raises NotPossibleError."""
    bounds: dict[str, Decimal | None] = {}
    for keyword in KEYWORDS["number"]:
        value = schema.get(keyword)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise NotPossibleError(f"has a {keyword} that is no number")
        bounds[keyword] = None if value is None else Decimal(repr(value))
    low, over = _tighter(bounds["minimum"], bounds["exclusiveMinimum"], max)
    high, under = _tighter(bounds["maximum"], bounds["exclusiveMaximum"], min)
    if low is None and high is None and kind == "number":
        return "number"
    if kind == "number":
        return rules_of.number(low, high, over=over, under=under)
    least = None if low is None else ceil(low) + (over and low == ceil(low))
    most = None if high is None else floor(high) - (under and high == floor(high))
    return rules_of.integer(least, most)


def _tighter(bound: Decimal | None, exclusive: Decimal | None, choose: Any) -> tuple[Decimal | None, bool]:
    """The bound that counts, and whether it is itself left out."""
    if bound is None or exclusive is None:
        return (exclusive, True) if exclusive is not None else (bound, False)
    return (exclusive, True) if choose(bound, exclusive) == exclusive else (bound, False)


def are_disjoint(schemas: Sequence[Any]) -> bool:
    """Whether no value can be valid by two of them: their types differ, or a property that all must have does."""
    return all(_differ(left, right) for at, left in enumerate(schemas) for right in schemas[:at])


def _differ(left: Any, right: Any) -> bool:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return False
    left_values, right_values = _values(left), _values(right)
    if left_values is not None and right_values is not None:
        return not any(value in right_values for value in left_values)
    kind, other_kind = left.get("type"), right.get("type")
    if isinstance(kind, str) and isinstance(other_kind, str) and kind != other_kind:
        return {kind, other_kind} != {"integer", "number"}
    properties, other_properties = left.get("properties"), right.get("properties")
    if not isinstance(properties, dict) or not isinstance(other_properties, dict):
        return False
    both = [name for name in _required(left) if name in _required(right)]
    return any(_differ(properties.get(name), other_properties.get(name)) for name in both)


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    """The only ones that are valid, where a schema names them."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values if isinstance(values, list) else None


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return required if is_texts(required) else []


def is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
