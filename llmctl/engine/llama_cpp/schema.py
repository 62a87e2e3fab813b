"""From a JSON schema to a grammar (GBNF) of which every text is valid by the schema.

A keyword that the grammar can't follow is refused by its name: a schema is kept whole, or not taken. The grammar may
allow less than the schema: properties come in the schema's order, and none are made up beside those it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmctl.engine.llama_cpp import gbnf as rules_of
from llmctl.engine.llama_cpp.gbnf import NotPossibleError, literal, one_of
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.schema_kinds import (
    ANNOTATIONS,
    KEYWORDS,
    are_disjoint,
    implied,
    is_of,
    is_texts,
    number,
    of_kind,
)

MOST_SCHEMAS = 5000  # schemas in each other and beside each other
DEEPEST_REFERENCE = 8  # times that a schema may be part of itself: a model could nest without end
MOST_VALUES = 1000  # of an enumeration
LONGEST_GRAMMAR = 256 << 10
DATE, TIME = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
ZONE = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
FORMATS = {
    "date": f"^{DATE}$",
    "time": f"^{TIME}{ZONE}$",
    "date-time": f"^{DATE}T{TIME}{ZONE}$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "email": "^[A-Za-z0-9_+-]+([.][A-Za-z0-9_+-]+)*@[A-Za-z0-9]+([.-][A-Za-z0-9]+)*[.][A-Za-z]{2,16}$",
    "ipv4": "^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$",
    "uri": "^https?://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/?#=&%+-]*)?$",
}
COMMON = r"""
ws ::= (" " | "\n" " "{0,16})?
char ::= [ !#-\[\]-~] | [\U00000080-\U0000D7FF\U0000E000-\U0010FFFF] | "\\" (["\\/bfnrt] | "u" unit)
unit ::= [0-9a-cA-CeEfF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}
string ::= "\"" char* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,14})? ([eE] [-+]? [0-9]{1,2})?
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (string ws ":" ws value (ws "," ws string ws ":" ws value)*)? ws "}"
array ::= "[" ws (value (ws "," ws value)*)? ws "]"
"""


class _EndlessError(Exception):
    """A schema that is part of itself once too often."""


def gbnf(schema: Any, name: str) -> str:
    """The grammar, its rule ``root``. ``name``: the field that holds the schema. Raises RefusedError."""
    converter = Converter(schema, name)
    return together(f"root ::= {converter.root()}", [converter])


def together(root: str, converters: Sequence[Converter]) -> str:
    """The grammar whose first rule is ``root``, with the converters' rules. Raises RefusedError."""
    text = "\n".join([root, *(rule for converter in converters for rule in converter.rules)]) + COMMON
    if len(text) > LONGEST_GRAMMAR:
        name = converters[0].name
        raise invalid(f"{name}: its grammar has {len(text):,} characters, at most {LONGEST_GRAMMAR:,} may be")
    return text


class Converter:
    """Makes rules of schemas that may refer to parts of ``document``. ``prefix``: of the rules' names."""

    def __init__(self, document: Any, name: str, prefix: str = "r") -> None:
        self._document = document
        self.name = name
        self._prefix = prefix
        self.rules: list[str] = []
        self._referring: list[str] = []  # the references that are being followed
        self._referred: dict[tuple[str, int], str | None] = {}  # None: endless
        self._schemas = 0

    def root(self) -> str:
        """The rule of the document itself. Raises RefusedError."""
        try:
            return self.rule(self._document, "")
        except RecursionError as error:
            raise invalid(f"{self.name}: its parts refer to each other too often") from error
        except _EndlessError as error:
            raise invalid(f"{self.name}: whatever is valid by it has no end") from error

    def rule(self, schema: Any, path: str) -> str:
        """The name of a rule, or what stands for one. Raises RefusedError."""
        self._schemas += 1
        if self._schemas > MOST_SCHEMAS:
            raise invalid(f"{self.name} holds more than {MOST_SCHEMAS:,} schemas")
        if schema is True:
            schema = {}
        if not isinstance(schema, dict):
            raise self._refused(path, "must be an object")
        if "$ref" in schema:
            return self._reference(schema, path)
        if "allOf" in schema:
            return self.rule(self._merged_all(schema, path), path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._union(schema, keyword, path)
        if "enum" in schema or "const" in schema:
            return self._constant(schema, path)
        return self._typed(schema, path)

    def _refused(self, path: str, words: str) -> Exception:
        return invalid(f"{self.name}{path} {words}")

    def _add(self, content: str) -> str:
        name = f"{self._prefix}{len(self.rules)}"
        self.rules.append(f"{name} ::= {content}")
        return name

    def _only(self, schema: Mapping[str, Any], allowed: frozenset[str], path: str) -> None:
        if unknown := sorted(schema.keys() - allowed - ANNOTATIONS):
            raise self._refused(f"{path}.{unknown[0]!s:.60}", "is not possible here: this engine can't keep to it")

    def _reference(self, schema: Mapping[str, Any], path: str) -> str:
        self._only(schema, frozenset({"$ref"}), path)
        reference = schema["$ref"]
        target = self._resolved(reference, path)
        depth = self._referring.count(reference)
        key = reference, depth
        if key not in self._referred:
            self._referred[key] = None
            if depth < DEEPEST_REFERENCE:
                self._referring.append(reference)
                try:
                    self._referred[key] = self.rule(target, reference)
                except _EndlessError:
                    pass
                finally:
                    self._referring.pop()
        name = self._referred[key]
        if name is None:
            raise _EndlessError
        return name

    def _resolved(self, reference: Any, path: str) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._refused(f"{path}.$ref", "must be #/ and a place in the schema")
        target = self._document
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or key not in target:
                raise self._refused(f"{path}.$ref", f"refers to {reference!a:.80}, which isn't there")
            target = target[key]
        return target

    def _merged_all(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        parts = schema["allOf"]
        if not isinstance(parts, list):
            raise self._refused(f"{path}.allOf", "must be a list")
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            seen = 0
            while isinstance(part, dict) and part.keys() - ANNOTATIONS == {"$ref"} and seen < MOST_SCHEMAS:
                part, seen = self._resolved(part["$ref"], path), seen + 1
            merged = self._merged(merged, part, f"{path}.allOf")
        return merged

    def _merged(self, schema: Mapping[str, Any], more: Any, path: str) -> dict[str, Any]:
        """Both at once, where no keyword says two things."""
        if not isinstance(more, dict):
            raise self._refused(path, "must hold objects")
        merged = dict(schema)
        for key, value in more.items():
            if key == "properties" and isinstance(value, dict) and isinstance(merged.get(key, {}), dict):
                merged[key] = self._merged(merged.get(key, {}), value, f"{path}.{key}")
            elif key == "required" and isinstance(value, list) and isinstance(merged.get(key, []), list):
                merged[key] = [*merged.get(key, []), *value]
            elif key in merged and key not in ANNOTATIONS and merged[key] != value:
                raise self._refused(path, f"says two things of {key!a:.60}, which is not possible")
            else:
                merged[key] = value
        return merged

    def _union(self, schema: Mapping[str, Any], keyword: str, path: str) -> str:
        given = schema[keyword]
        if not isinstance(given, list) or not given:
            raise self._refused(f"{path}.{keyword}", "must be a list that isn't empty")
        rest = {key: value for key, value in schema.items() if key != keyword}
        common = {key: value for key, value in rest.items() if key not in ANNOTATIONS}
        ways = [self._merged(common, way, f"{path}.{keyword}") if common else way for way in given]
        if keyword == "oneOf" and not are_disjoint([self._target(way, path) for way in ways]):
            raise self._refused(f"{path}.oneOf", "is not possible where a value may be several of them: use anyOf")
        rules = [self._optional(way, f"{path}.{keyword}[{at}]") for at, way in enumerate(ways)]
        if not any(rules):
            raise _EndlessError
        return self._add(one_of(rule for rule in rules if rule is not None))

    def _optional(self, schema: Any, path: str) -> str | None:
        """The rule of what may be left out; None if it has to be, as it would have no end."""
        try:
            return self.rule(schema, path)
        except _EndlessError:
            return None

    def _target(self, schema: Any, path: str) -> Any:
        is_reference = isinstance(schema, dict) and "$ref" in schema
        return self._resolved(schema["$ref"], path) if is_reference else schema

    def _constant(self, schema: Mapping[str, Any], path: str) -> str:
        self._only(schema, frozenset({"enum", "const", "type"}), path)
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list) or len(values) > MOST_VALUES:
            raise self._refused(f"{path}.enum", f"must be a list of at most {MOST_VALUES:,}")
        if "const" in schema:
            values = [value for value in values if value == schema["const"]]
        values = [value for value in values if "type" not in schema or is_of(value, schema["type"])]
        if not values:
            raise self._refused(path, "leaves no value")
        texts = dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in values)
        return self._possible(path, lambda: self._add(one_of(map(literal, texts))))

    def _possible(self, path: str, make: Callable[[], str]) -> str:
        try:
            return make()
        except NotPossibleError as error:
            raise self._refused(path, str(error)) from error

    def _typed(self, schema: Mapping[str, Any], path: str) -> str:
        kinds = schema.get("type", implied(schema))
        if isinstance(kinds, list) and kinds:
            for_all = frozenset().union(*(KEYWORDS.get(kind, frozenset()) for kind in kinds if isinstance(kind, str)))
            self._only(schema, for_all | {"type"}, path)
            return self._add(one_of(self._typed(of_kind(schema, kind), path) for kind in kinds))
        if kinds is None:
            self._only(schema, frozenset(), path)
            return "value"
        if not isinstance(kinds, str) or kinds not in KEYWORDS:
            raise self._refused(f"{path}.type", f"must be one of {', '.join(KEYWORDS)}")
        self._only(schema, KEYWORDS[kinds] | {"type"}, path)
        match kinds:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return self._possible(path, lambda: self._string(schema, path))
            case "integer" | "number":
                return self._possible(path, lambda: self._add(number(schema, kinds)))
        return '("true" | "false")' if kinds == "boolean" else '"null"'

    def _object(self, schema: Mapping[str, Any], path: str) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        more = schema.get("additionalProperties", True)
        if not isinstance(properties, dict) or not is_texts(required):
            raise self._refused(path, "must have an object of properties and a list of the names required")
        if unnamed := [name for name in required if name not in properties]:
            if more is False:
                raise self._refused(f"{path}.required", f"names {unnamed[0]!a:.60}, which is no property")
            properties = {**properties, **dict.fromkeys(unnamed, more)}
        if properties:
            return self._properties(properties, required, path)
        if more is False:
            return '"{" ws "}"'
        value = self._optional(more, f"{path}.additionalProperties")
        if value is None:
            return '"{" ws "}"'
        pair = self._add(f'string ws ":" ws {value}')
        return self._add(f'"{{" ws ({pair} (ws "," ws {pair})*)? ws "}}"')

    def _properties(self, properties: Mapping[str, Any], required: Sequence[Any], path: str) -> str:
        """Two chains of rules, from the last property on: ``first`` where none has been written yet, ``rest`` behind
        one that has."""
        first, rest = '""', '""'
        for name, schema in reversed(list(properties.items())):
            place = f"{path}.properties.{name:.60}"
            value = self.rule(schema, place) if name in required else self._optional(schema, place)
            if value is None:
                continue
            pair = self._add(f'{self._key(name, path)} ws ":" ws {value}')
            if name in required:
                first, rest = self._add(f"{pair} {rest}"), self._add(f'ws "," ws {pair} {rest}')
            else:
                first, rest = self._add(f"{pair} {rest} | {first}"), self._add(f'(ws "," ws {pair})? {rest}')
        return self._add(f'"{{" ws {first} ws "}}"')

    def _key(self, name: str, path: str) -> str:
        return self._possible(path, lambda: literal(json.dumps(name, ensure_ascii=False)))

    def _array(self, schema: Mapping[str, Any], path: str) -> str:
        prefix, items = schema.get("prefixItems"), schema.get("items", True)
        least, most = self._count(schema, "minItems", path) or 0, self._count(schema, "maxItems", path)
        if isinstance(items, list):  # as prefixItems was called before
            prefix, items = items, True
        if prefix is not None:
            if not isinstance(prefix, list) or not prefix or least > len(prefix) or (most or len(prefix)) < len(prefix):
                raise self._refused(f"{path}.prefixItems", "must be as many schemas as there are to be items")
            parts = [self.rule(part, f"{path}.prefixItems[{at}]") for at, part in enumerate(prefix)]
            return self._add('"[" ws ' + ' ws "," ws '.join(parts) + ' ws "]"')
        if most == 0 or items is False:
            return '"[" ws "]"'
        if most is not None and most < least:
            raise self._refused(path, f"wants {least:,} items at least and {most:,} at most")
        item = self.rule(items, f"{path}.items") if least else self._optional(items, f"{path}.items")
        if item is None:
            return '"[" ws "]"'
        more = self._possible(
            path,
            lambda: rules_of.repeated(f'ws "," ws {item}', max(least - 1, 0), None if most is None else most - 1),
        )
        return self._add(f'"[" ws {item} {more} ws "]"' if least else f'"[" ws ({item} {more})? ws "]"')

    def _count(self, schema: Mapping[str, Any], keyword: str, path: str) -> int | None:
        count = schema.get(keyword)
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
            raise self._refused(f"{path}.{keyword}", "must be a whole number")
        return count

    def _string(self, schema: Mapping[str, Any], path: str) -> str:
        least, most = self._count(schema, "minLength", path) or 0, self._count(schema, "maxLength", path)
        given, form = schema.get("pattern"), schema.get("format")
        if form is not None and given is None:
            given = FORMATS.get(form) if isinstance(form, str) else None
            if given is None:
                raise self._refused(f"{path}.format", f"is {form!a:.40}; possible are {', '.join(FORMATS)}")
        if given is None and not least and most is None:
            return "string"
        if given is None:
            if most is not None and most < least:
                raise NotPossibleError(f"wants {least:,} characters at least and {most:,} at most")
            return self._add(f'"\\"" {rules_of.repeated("char", least, most)} "\\""')
        if least or most is not None or not isinstance(given, str):
            raise self._refused(f"{path}.pattern", "must be a text, with no minLength or maxLength beside it")
        return self._add(rules_of.pattern(given))
