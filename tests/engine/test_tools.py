"""Calls of tools as families of models write them, however the text is cut on its way."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.engine.llama_cpp.conversation import Tools, read_tools
from llmctl.engine.llama_cpp.tool_formats import FORMATS, ToolFormat, format_of
from llmctl.engine.llama_cpp.tools import ToolParser
from llmctl.types.event import ToolCall

TOOLS: Tools = read_tools(
    [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                    "required": ["city"],
                },
            },
        },
        {"type": "function", "function": {"name": "stop"}},
    ],
    None,
)
PARIS = ("get_weather", {"city": "Paris", "days": 2})
ROME = ("get_weather", {"city": "Rome <b> } \" 'x'"})
BY_NAME = {form.name: form for form in FORMATS}

WRITTEN: list[tuple[str, str, str, list[tuple[str, dict[str, Any]]]]] = [
    (
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>',
        "",
        [PARIS],
    ),
    (
        "hermes",
        'Let me look.\n<tool_call>{"name": "get_weather", "arguments": {"city": "Rome <b> } \\" \'x\'"}}</tool_call>\n'
        '<tool_call>{"name": "stop", "arguments": {}}</tool_call>\n',
        "Let me look.\n",
        [ROME, ("stop", {})],
    ),
    (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call>"}}</tool_call>',
        "",
        [("get_weather", {"city": "</tool_call>"})],
    ),
    (
        "qwen coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        "",
        [PARIS],
    ),
    (
        "qwen coder",
        "<function=get_weather>\n<parameter=city>\n2\n</parameter>\n</function>",
        "",
        [("get_weather", {"city": "2"})],
    ),
    (
        "glm",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        "",
        [PARIS],
    ),
    ("llama", '{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}', "", [PARIS]),
    (
        "llama",
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}; {"name": "stop", '
        '"parameters": {}}',
        "",
        [PARIS, ("stop", {})],
    ),
    ("mistral", '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]', "", [PARIS]),
    (
        "mistral",
        'Well.[TOOL_CALLS]get_weather[ARGS]{"city": "Paris", "days": 2}[TOOL_CALLS]stop[ARGS]{}',
        "Well.",
        [PARIS, ("stop", {})],
    ),
    (
        "deepseek",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Paris", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        "",
        [PARIS],
    ),
    (
        "deepseek",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Paris", "days": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>stop<｜tool▁sep｜>{}<｜tool▁call▁end｜>'
        "<｜tool▁calls▁end｜>",
        "",
        [PARIS, ("stop", {})],
    ),
    (
        "harmony",
        '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris", "days": 2}',
        "",
        [PARIS],
    ),
    (
        "harmony",
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris", "days": 2}',
        "",
        [PARIS],
    ),
    (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris", "days": 2}<|tool_call_end|><|tool_calls_section_end|>',
        "",
        [PARIS],
    ),
    ("gemma", '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:2}<tool_call|>', "", [PARIS]),
    (
        "gemma",
        '<start_function_call>call:get_weather{city:<escape>a{b:c},d:"e<escape>}<end_function_call>',
        "",
        [("get_weather", {"city": 'a{b:c},d:"e'})],
    ),
    ("granite", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]', "", [PARIS]),
    (
        "command",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris", '
        '"days": 2}}]<|END_ACTION|>',
        "",
        [PARIS],
    ),
    (
        "lfm",
        '<|tool_call_start|>[get_weather(city="Paris", days=2), stop()]<|tool_call_end|>',
        "",
        [PARIS, ("stop", {})],
    ),
]
WRITTEN += [
    (
        "nemotron",
        '<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}]</TOOLCALL>',
        "",
        [PARIS],
    ),
    (
        "qwen coder",
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n<parameter=days>2</parameter>\n"
        "</function>\n</seed:tool_call>",
        "",
        [PARIS],
    ),
]
NO_CALLS = [
    ("hermes", "A <tool_call> tag, and </tool_call> closes it."),
    ("hermes", '<tool_call>{"name": "get_weather", "arguments": {"city": </tool_call> is cut'),
    ("hermes", "<tool_c"),
    ("llama", '{"name": "Ann", "parameters": 5}'),
    ("llama", "[1, 2] is a list"),
    ("llama", " \n{not json"),
    ("llama", "Hello {"),
    ("mistral", "[TOOL_CALLS] are what I write"),
    ("gemma", "<|tool_call>call:x{<tool_call|>"),
    ("lfm", "<|tool_call_start|>[__import__('os').system('x')]<|tool_call_end|>"),
    ("lfm", "<|tool_call_start|>[f(a=g())]<|tool_call_end|>"),
    ("harmony", "to=functions"),
]


def parsed(form: ToolFormat, bits: list[str]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    parser = ToolParser(form, TOOLS)
    parts = [part for bit in bits for part in parser.feed(bit)] + parser.end()
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert len({call.id for call in calls}) == len(calls)
    assert all(len(call.id) == 9 and call.id.isalnum() for call in calls)
    text = "".join(part for part in parts if isinstance(part, str))
    return text, [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize(("name", "written", "text", "calls"), WRITTEN)
def test_calls(name: str, written: str, text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    form = BY_NAME[name]
    whole = parsed(form, [written])
    assert whole[1] == calls
    assert whole[0].strip() == text.strip()
    assert parsed(form, list(written)) == whole


@given(st.sampled_from(WRITTEN), st.lists(st.integers(0, 300), max_size=8))
def test_calls_however_they_are_cut(
    case: tuple[str, str, str, list[tuple[str, dict[str, Any]]]], cuts: list[int]
) -> None:
    name, written, _, _ = case
    places = sorted({min(cut, len(written)) for cut in cuts} | {0, len(written)})
    bits = [written[begin:end] for begin, end in pairwise(places)]
    assert parsed(BY_NAME[name], bits) == parsed(BY_NAME[name], [written])


@pytest.mark.parametrize(("name", "written"), NO_CALLS)
def test_what_is_no_call_stays_text(name: str, written: str) -> None:
    assert parsed(BY_NAME[name], [written]) == (written, [])
    assert parsed(BY_NAME[name], list(written)) == (written, [])


@given(
    st.sampled_from(FORMATS),
    st.lists(st.sampled_from(["a", " ", "\n", "{", "}", "<", '"', "[", "<tool_call>", "</tool_call>"])),
)
def test_no_text_is_lost(form: ToolFormat, bits: list[str]) -> None:
    assert parsed(form, bits)[0] == "".join(bits)


@given(st.sampled_from(WRITTEN))
def test_no_bit_of_a_tag_becomes_text_before_its_call(
    case: tuple[str, str, str, list[tuple[str, dict[str, Any]]]],
) -> None:
    name, written, text, _ = case
    parser = ToolParser(BY_NAME[name], TOOLS)
    said = ""
    for letter in written:
        said += "".join(part for part in parser.feed(letter) if isinstance(part, str))
        assert text.startswith(said) or said.strip() == text.strip()


@pytest.mark.parametrize("form", [form for form in FORMATS if form.written], ids=lambda form: form.name)
def test_what_is_forced_is_read(form: ToolFormat) -> None:
    assert form.written is not None
    written = form.written
    text = f'{written.before}get_weather{written.between}{{"city": "Paris", "days": 2}}{written.after}'
    assert parsed(form, list(text)) == ("", [PARIS])


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ '<tool_call>\\n' + tool_call.name }}", "hermes"),
        ("<tool_call>\n<function=' + tool_call.name", "qwen coder"),
        ("<tool_call>{{ name }}<arg_key>", "glm"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ('Respond in the format {"name": function name, "parameters": dictionary', "llama"),
        ("<｜tool▁calls▁begin｜>", "deepseek"),
        ("{{ m.content }}", None),
    ],
)
def test_a_template_shows_its_format(template: str, name: str | None) -> None:
    form = format_of(template)
    assert (form and form.name) == name
