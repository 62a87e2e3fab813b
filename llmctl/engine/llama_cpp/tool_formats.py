"""How families of models write calls of tools: the marks around a call, and what stands between them.

Sources are the chat templates of the models named, as they are published with their weights.
"""

from __future__ import annotations

from msgspec import Struct

from llmctl.engine.llama_cpp import schema
from llmctl.engine.llama_cpp.conversation import Tools
from llmctl.engine.llama_cpp.gbnf import literal, one_of
from llmctl.engine.llama_cpp.tool_readers import (
    Reader,
    named,
    read_gemma,
    read_json,
    read_json_of_tools,
    read_python,
    read_tagged,
)


class Written(Struct, frozen=True):
    """One call as the model writes it: what stands in front of the name, between it and the arguments, behind them."""

    before: str
    between: str
    after: str = ""


class ToolFormat(Struct, frozen=True):
    """``known_by``: texts in a template that show it. ``close`` is empty where the answer's end closes. ``keeps``:
    opening marks that are read as part of the call. ``bare``: a call may be the answer from its first brace on.
    ``before_thoughts``: its marks are looked for before thoughts are told apart. ``control``: other control tokens that
    stand in a call. ``written`` is None where it can't be forced by a grammar."""

    name: str
    source: str
    known_by: tuple[str, ...]
    open: tuple[str, ...]
    close: tuple[str, ...]
    read: Reader
    written: Written | None = None
    keeps: tuple[str, ...] = ()
    bare: bool = False
    before_thoughts: bool = False
    control: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        return (*self.open, *self.close, *self.control)


FORMATS = (
    ToolFormat(
        "harmony",
        "openai/gpt-oss-20b",
        ("to=functions.", '"functions." + tool_call.name'),
        (
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
            "<|start|>assistant to=functions.",
            " to=functions.",
        ),
        ("<|call|>", "<|end|>"),
        named(r"(?P<name>[\w.-]+)[^{]*?<\|message\|>\s*"),
        Written("<|channel|>commentary to=functions.", " <|constrain|>json<|message|>"),
        before_thoughts=True,
        control=("<|start|>", "<|constrain|>", "<|message|>"),
    ),
    ToolFormat(
        "kimi",
        "moonshotai/Kimi-K2-Instruct",
        ("<|tool_calls_section_begin|>",),
        ("<|tool_calls_section_begin|>",),
        ("<|tool_calls_section_end|>",),
        named(
            r"\s*(?:<\|tool_call_begin\|>)?\s*(?:functions\.)?(?P<name>[\w.-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*",
            r"\s*(?:<\|tool_call_end\|>)?\s*",
        ),
        Written(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.",
            ":0<|tool_call_argument_begin|>",
            "<|tool_call_end|><|tool_calls_section_end|>",
        ),
        control=("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    ),
    ToolFormat(
        "deepseek",
        "deepseek-ai/DeepSeek-V3.1, DeepSeek-R1-Distill",
        ("<｜tool▁calls▁begin｜>",),
        ("<｜tool▁calls▁begin｜>",),
        ("<｜tool▁calls▁end｜>",),
        named(
            r"\s*(?:<｜tool▁call▁begin｜>)?(?:function<｜tool▁sep｜>)?(?P<name>[\w.-]+)"
            r"(?:<｜tool▁sep｜>\s*(?:```json\s*)?|\s*```json\s*)",
            r"\s*(?:```)?\s*(?:<｜tool▁call▁end｜>)?\s*",
        ),
        Written(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        control=("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    ),
    ToolFormat(
        "mistral",
        "mistralai/Mistral-Nemo-Instruct-2407, Devstral-Small-2507",
        ("[TOOL_CALLS]",),
        ("[TOOL_CALLS]",),
        (),
        named(r"\s*(?:\[TOOL_CALLS\])?\s*(?P<name>[\w.-]+)(?:\[CALL_ID\][\w-]+)?(?:\[ARGS\])?\s*", r"\s*"),
        Written('[TOOL_CALLS][{"name": "', '", "arguments": ', "}]"),
        control=("[ARGS]", "[CALL_ID]"),
    ),
    ToolFormat(
        "gemma",
        "google/gemma-4-31B-it, google/functiongemma-270m-it",
        ("<|tool_call>", "<start_function_call>"),
        ("<|tool_call>", "<start_function_call>"),
        ("<tool_call|>", "<end_function_call>"),
        read_gemma,
        control=('<|"|>', "<escape>"),
    ),
    ToolFormat(
        "command",
        "CohereForAI/c4ai-command-r7b-12-2024",
        ("<|START_ACTION|>",),
        ("<|START_ACTION|>",),
        ("<|END_ACTION|>",),
        read_json,
        Written('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "', '", "parameters": ', "}]<|END_ACTION|>"),
    ),
    ToolFormat(
        "lfm",
        "LiquidAI/LFM2-1.2B",
        ("<|tool_call_start|>", "<|tool_list_start|>"),
        ("<|tool_call_start|>",),
        ("<|tool_call_end|>",),
        read_python,
    ),
    ToolFormat(
        "granite",
        "ibm-granite/granite-3.3-2b-instruct, microsoft/Phi-4-mini-instruct",
        ("<|tool_call|>",),
        ("<|tool_call|>",),
        ("<|/tool_call|>",),
        read_json,
        Written('<|tool_call|>[{"name": "', '", "arguments": ', "}]"),
    ),
    ToolFormat(
        "qwen coder",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct, ByteDance-Seed/Seed-OSS-36B-Instruct",
        ("<function=",),
        ("<tool_call>", "<seed:tool_call>", "<function="),
        ("</tool_call>", "</seed:tool_call>", "</function>"),
        read_tagged,
        keeps=("<function=",),
    ),
    ToolFormat(
        "glm",
        "zai-org/GLM-4.5-Air",
        ("<arg_key>",),
        ("<tool_call>",),
        ("</tool_call>",),
        read_tagged,
    ),
    ToolFormat(
        "nemotron",
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        ("<TOOLCALL>",),
        ("<TOOLCALL>",),
        ("</TOOLCALL>",),
        read_json,
        Written('<TOOLCALL>[{"name": "', '", "arguments": ', "}]</TOOLCALL>"),
    ),
    ToolFormat(
        "hermes",
        "NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct, ibm-granite/granite-4.0-h-tiny",
        ("<tool_call>",),
        ("<tool_call>",),
        ("</tool_call>",),
        read_tagged,
        Written('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    ),
    ToolFormat(
        "llama",
        "meta-llama/Llama-3.1-8B-Instruct, Llama-3.2-3B-Instruct",
        ("<|python_tag|>", '{"name": function name, "parameters"'),
        ("<|python_tag|>",),
        (),
        read_json_of_tools,
        Written('{"name": "', '", "parameters": ', "}"),
        bare=True,
    ),
)


def format_of(template: str) -> ToolFormat | None:
    """The format of the model whose chat template this is; None if it is none of ours."""
    return next((form for form in FORMATS if any(text in template for text in form.known_by)), None)


def forced(form: ToolFormat, tools: Tools) -> str | None:
    """The grammar of an answer that is one call of a tool; None where it can't be said. Raises RefusedError for a
    schema that no grammar can keep to."""
    if form.written is None:
        return None
    written = form.written
    ways, converters = [], []
    for at, function in enumerate(tools.callable):
        converter = schema.Converter(function["parameters"], f"tools: {function['name']}", f"t{at}-")
        before = literal(written.before + function["name"] + written.between)
        ways.append(f"{before} {converter.root()} {literal(written.after)}")
        converters.append(converter)
    return schema.together(f"root ::= {one_of(ways)}", converters)
