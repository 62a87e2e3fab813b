"""JSON schemas as grammars: what llama.cpp writes by them is valid, and what they can't say is refused."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.engine.llama_cpp.refused import RefusedError
from llmctl.engine.llama_cpp.sampling import Sampler, SamplingOptions
from llmctl.engine.llama_cpp.schema import gbnf
from tests.fakes.scripted_model import write_scripted

# Tokens beside bytes and letters: some end one rule of a grammar and begin the next.
PIECES = ('"}', '",', '{"', '":', '": "', "}}", "},", "[{", "]}", ', "', "true", "false", "null", "name", "12", "-1")
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TEN: dict[str, Any] = {
    "nested objects": {
        "type": "object",
        "properties": {"who": PERSON, "at": {"type": "object", "properties": {"place": PERSON}, "required": ["place"]}},
        "required": ["who", "at"],
    },
    "enumerations": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", 'the "other"', 5, None, {"a": [1]}]}, "size": {"enum": ["S", "M"]}},
        "required": ["colour", "size"],
    },
    "lists with limits": {
        "type": "array",
        "items": {"type": "integer", "minimum": -3, "maximum": 12},
        "minItems": 2,
        "maxItems": 4,
    },
    "optional properties": {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in ("a", "b", "c", "d")},
        "required": ["c"],
    },
    "references to itself": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 1, "maximum": 9},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
                },
                "required": ["value"],
            }
        },
        "$ref": "#/$defs/tree",
    },
    "patterns": {
        "type": "object",
        "properties": {
            "phone": {"type": "string", "pattern": "^\\+?[0-9]{2,4}( |-)[0-9]{3,5}$"},
            "word": {"type": "string", "pattern": '^(?:ab|c"d\\\\)[^a-z"\\s]{1,3}\\w\\d?$'},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["phone", "word", "day"],
    },
    "numbers with bounds": {
        "type": "object",
        "properties": {
            "part": {"type": "number", "minimum": 0, "maximum": 1},
            "over": {"type": "number", "exclusiveMinimum": -1.25, "exclusiveMaximum": 17.5},
            "far": {"type": "integer", "exclusiveMinimum": 997, "maximum": 1203},
            "cold": {"type": "integer", "maximum": -7},
        },
        "required": ["part", "over", "far", "cold"],
    },
    "one of several": {
        "anyOf": [PERSON, {"type": "string", "minLength": 1, "maxLength": 5}, {"type": ["integer", "null"]}]
    },
    "constants": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "x"}, "of": {"type": "null"}},
                "required": ["kind", "of"],
            },
            {"type": "object", "properties": {"kind": {"const": "y"}}, "required": ["kind"]},
        ]
    },
    "truth and nothing": {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}, "no": {"type": "null"}, "all": {"allOf": [PERSON, {"title": "t"}]}},
        "required": ["yes", "no", "all"],
    },
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The vocabulary alone: what a model finds likely is made up by the tests."""
    import llama_cpp

    file = write_scripted(tmp_path_factory.mktemp("vocabulary") / "model.gguf", PIECES)
    model = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    yield model
    model.close()


def written(llama: Any, grammar: str, seed: int, most: int = 600) -> str:
    """A text that the grammar allows, of tokens that are likely by chance; ends and quotes are liked."""
    random = np.random.default_rng(seed)
    liked = [llama.tokenize(text.encode(), add_bos=False)[0] for text in ('"', "}", "]", '"}', '",')]
    tokens: list[int] = []
    with Sampler(llama._model.vocab, SamplingOptions(temperature=0.0, grammar=grammar)) as sampler:
        assert sampler._grammar is not None
        while len(tokens) < most:
            logits = random.normal(size=sampler._size).astype(np.float32)
            logits[[*liked, llama.token_eos()]] += 5
            row = logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            tokens.append(sampler._grammar.choose(sampler._chain, row))
            if tokens[-1] == llama.token_eos():
                return str(llama.detokenize(tokens[:-1]).decode())
    raise AssertionError("the text did not end: " + llama.detokenize(tokens).decode("utf-8", "replace"))


def allows(llama: Any, grammar: str, text: str) -> bool:
    with Sampler(llama._model.vocab, SamplingOptions(grammar=grammar)) as sampler:
        inner = sampler._grammar
        assert inner is not None
        import llama_cpp

        for token in [*llama.tokenize(text.encode(), add_bos=False), llama.token_eos()]:
            if not inner._allows(token):
                return False
            llama_cpp.llama_sampler_accept(inner._sampler, token)
    return True


@pytest.mark.parametrize("name", TEN)
def test_what_is_written_is_valid(llama: Any, name: str) -> None:
    grammar = gbnf(TEN[name], "schema")
    texts = {written(llama, grammar, seed) for seed in range(2)}
    for text in texts:
        jsonschema.validate(json.loads(text), TEN[name])
    assert len(texts) > 1


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({}, ['{"a": [1, "x", null, true]}', "-1.5e3", '"\\u00e9\\n"'], ["{a}", "01", ""]),
        ({"type": "object"}, ["{}", '{"a": {"b": []}}'], ["[]", "5"]),
        (True, ["[]"], ["["]),
        (
            PERSON,
            ['{"name": "Ann", "age": 7}', '{"name":"Zoë","age":130}'],
            ['{"age": 7}', '{"name": "x", "age": 131}'],
        ),
        (
            PERSON,
            ['{\n  "name": "",\n  "age": 0\n}'],
            ['{"name": "Ann", "age": 7, "x": 1}', '{"name": "Ann", "age": 07}'],
        ),
        (TEN["optional properties"], ['{"c": true}', '{"a": true, "c": false, "d": true}'], ["{}", '{"a": true}']),
        ({"type": "object", "properties": {"a": {}, "b": {}}}, ["{}", '{"b": 1}', '{"a": 1, "b": 2}'], ['{"a": 1,}']),
        ({"additionalProperties": {"type": "integer"}}, ["{}", '{"x": 1, "y": 2}'], ['{"x": "1"}']),
        ({"type": "integer", "minimum": 0}, ["0", "15", "123456789"], ["-1", "1.5", "00"]),
        ({"type": "integer", "minimum": -12, "maximum": 105}, ["-12", "-1", "0", "99", "105"], ["-13", "106", "-0"]),
        ({"type": "integer", "minimum": 1, "maximum": 5, "exclusiveMaximum": 4}, ["1", "3"], ["0", "4", "5"]),
        ({"type": "integer", "exclusiveMinimum": 1.5, "exclusiveMaximum": 3.5}, ["2", "3"], ["1", "4"]),
        ({"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.5", "0.25"], ["1.1", "-0.1", "1.0001"]),
        ({"type": "number", "exclusiveMinimum": 0}, ["0.001", "1.5", "250"], ["0", "0.000", "-1"]),
        ({"type": "number", "minimum": -2.5, "maximum": -1}, ["-2.500", "-2", "-1.5", "-1"], ["-2.6", "-0.9", "1"]),
        ({"minItems": 1, "items": {"const": 1}}, ["[1]", "[1, 1, 1]"], ["[]", "[2]", "[1,]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"prefixItems": [{"const": 1}, {"type": "null"}]}, ["[1, null]"], ["[1]", "[null, 1]"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"é\\n\\""'], ['"a"', '"abcd"']),
        ({"pattern": "b+"}, ['"aabc"', '"b"'], ['"ac"']),
        ({"pattern": "^[^\\d]x.$"}, ['"axy"', '"\\"x\\\\"'], ['"1xy"', '"ax"']),
        ({"format": "date-time"}, ['"2024-02-29T12:00:00Z"'], ['"2024-13-01T12:00:00Z"', '"today"']),
        ({"enum": ["a", "b", 1], "type": "string"}, ['"a"'], ["1", '"c"']),
        ({"const": {"x": "é"}}, ['{"x": "é"}'], ["{}"]),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"required": ["a"]}]}, ['{"a": 1}'], ["{}"]),
        ({"type": ["string", "null"], "maxLength": 1}, ["null", '"x"'], ['"xy"', "1"]),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, ['{"a": 1}', '{"b": 1}'], ["{}"]),
        ({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"const": 1}}}, ["1"], ["2"]),
    ],
)
def test_what_a_schema_allows(llama: Any, schema: Any, valid: list[str], invalid: list[str]) -> None:
    grammar = gbnf(schema, "schema")
    for text in valid:
        jsonschema.validate(json.loads(text), schema)
    assert [text for text in valid if not allows(llama, grammar, text)] == []
    assert [text for text in invalid if allows(llama, grammar, text)] == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (5, "schema must be an object"),
        ({"type": "strin"}, "schema.type must be one of"),
        ({"type": "integer", "multipleOf": 3}, "schema.multipleOf is not possible here"),
        ({"type": "array", "uniqueItems": True}, "schema.uniqueItems"),
        ({"not": {}}, "schema.not"),
        ({"properties": {"a": {"if": {}}}}, "schema.properties.a.if"),
        ({"items": {"$ref": "http://x/y"}}, "schema.items.$ref must be #/"),
        ({"$ref": "#/$defs/x"}, "isn't there"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "schema.oneOf is not possible"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "use anyOf"),
        ({"anyOf": []}, "schema.anyOf must be a list"),
        ({"enum": []}, "leaves no value"),
        ({"enum": ["a"], "type": "integer"}, "leaves no value"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "leaves no number"),
        ({"type": "integer", "minimum": 10**40}, "digits"),
        ({"type": "number", "minimum": 1e-30}, "digits"),
        ({"type": "integer", "minimum": "5"}, "minimum that is no number"),
        ({"type": "string", "minLength": -1}, "schema.minLength must be a whole number"),
        ({"type": "string", "maxLength": 100_000}, "at most 2,000 is possible"),
        ({"pattern": "(?=a)b"}, "uses assert"),
        ({"pattern": "(a)\\1"}, "uses groupref"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "a" * 600}, "at most 512"),
        ({"pattern": "^\\b$"}, "uses at"),
        ({"pattern": "^\x00$"}, "can't be written"),
        ({"pattern": "a", "maxLength": 3}, "schema.pattern must be a text"),
        ({"format": "iri"}, "schema.format is 'iri'; possible are"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "says two things of 'type'"),
        ({"required": ["a"], "additionalProperties": False}, "names 'a', which is no property"),
        ({"const": "\ud800"}, "surrogate"),
        ({"properties": {f"p{n}": {} for n in range(6000)}}, "more than 5,000 schemas"),
    ],
)
def test_what_can_not_be_kept_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(words)) as refused:
        gbnf(schema, "schema")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf/0"}]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_a_schema_of_which_nothing_has_an_end_is_refused(schema: Any) -> None:
    with pytest.raises(RefusedError, match="schema"):
        gbnf(schema, "schema")


def test_a_schema_may_be_part_of_itself_a_few_times(llama: Any) -> None:
    tree = {"properties": {"of": {"$ref": "#"}, "all": {"items": {"$ref": "#"}}}, "additionalProperties": False}
    grammar = gbnf(tree, "schema")
    for depth, is_allowed in ((0, True), (3, True), (7, True), (30, False)):
        assert allows(llama, grammar, '{"of":' * depth + "{}" + "}" * depth) is is_allowed
    assert allows(llama, grammar, '{"all":[{"of":{"all":[{},{}]}},{}]}')


WORDS = ["type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"]
WORDS += ["minLength", "maxLength", "pattern", "format", "minimum", "exclusiveMaximum", "enum", "const", "$ref"]
WORDS += ["anyOf", "oneOf", "allOf", "$defs", "a"]
VALUES = ["object", "array", "string", "integer", "number", "null", "#", "#/$defs/a", "^a+$", "[", "date", "a"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(allow_nan=False) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)


@given(ANYTHING)
def test_any_schema_is_a_grammar_or_refused(schema: Any) -> None:
    try:
        assert gbnf(schema, "schema").startswith("root ::= ")
    except RefusedError as error:
        assert str(error).startswith("schema")


def test_references_in_a_long_row_are_refused() -> None:
    parts: dict[str, Any] = {f"p{at}": {"$ref": f"#/$defs/p{at + 1}"} for at in range(900)}
    with pytest.raises(RefusedError, match="refer to each other too often"):
        gbnf({"$ref": "#/$defs/p0", "$defs": {**parts, "p900": {}}}, "schema")
