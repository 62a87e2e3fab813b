"""What the worker is asked to write: the fields that requests share, and a chat completion's. Every field is checked,
and refused by its name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from llmctl.engine.llama_cpp import schema
from llmctl.engine.llama_cpp.conversation import Choose, Tools, goes_on, read_messages, read_tools
from llmctl.engine.llama_cpp.pictures import Picture, pictures_of
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.engine.llama_cpp.sampling import LOGIT_BIAS_LIMIT, SEED_BITS, SamplingOptions

MOST_STOPS = 16
MOST_CHOICES = 16
MOST_TOP_LOGPROBS = 20
MOST_BIASES = 1024
DEEPEST = 64  # levels of objects and lists in each other
LONGEST_GRAMMAR = 16 << 10  # characters: the time that a grammar takes grows faster than its length
OWN_VARIABLES = frozenset(
    {
        *("messages", "bos_token", "eos_token", "add_generation_prompt", "raise_exception", "strftime_now"),
        *("functions", "function_call", "tools", "tool_choice", "documents"),
    }
)


class WritingRequest(Struct, frozen=True, kw_only=True):
    """How text is to be written, whatever stands before it. ``uses_cache``: whether the prompt may be found in, and
    left for, other requests; on disk as well where beginnings of prompts may take ``prompt_cache_bytes`` there.
    ``speculates``: whether tokens may be drafted, None where nothing was said of it. ``wants_usage``: a stream ends
    with a chunk that has usage and no choice."""

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    streams: bool = False
    wants_usage: bool = False
    uses_cache: bool = True
    prompt_cache_bytes: int = 0
    speculates: bool | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether the answer is to be the same each time, whatever else the engine computes. What a cache holds was
        computed beside other requests, so it isn't used, either."""
        return self.sampling.seed is not None and not self.speculates

    @property
    def may_draft(self) -> bool:
        """Not for a seed and not at temperature 0, unless that was asked for: whoever sets one wants the same answer
        again, and rows that are computed together are rounded in another way than one by one."""
        if self.speculates is not None:
            return self.speculates
        return self.sampling.seed is None and self.sampling.temperature != 0


class ChatRequest(WritingRequest, frozen=True):
    """``variables`` are those of the chat template. ``calls_once``: the first call of a tool ends the answer.
    ``continues``: the answer goes on with the last message."""

    messages: list[dict[str, Any]]
    variables: Mapping[str, Any] = field(default_factory=dict)
    tools: Tools = field(default_factory=Tools)
    calls_once: bool = False
    continues: bool = False
    pictures: tuple[Picture, ...] = ()


Check = Callable[[Any], bool]
Options = Mapping[str, tuple[Check, str]]


def _number(least: float, most: float) -> Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    )


def whole_number(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def kind_of(kind: type) -> Check:
    return lambda value: isinstance(value, kind)


def _stops(value: Any) -> bool:
    given = value if isinstance(value, list) else [value]
    return len(given) <= MOST_STOPS and all(isinstance(text, str) and text for text in given)


def _biases(value: Any) -> bool:
    is_bias = _number(-LOGIT_BIAS_LIMIT, LOGIT_BIAS_LIMIT)
    return (
        isinstance(value, dict)
        and len(value) <= MOST_BIASES
        and all(token.isdecimal() and token.isascii() and len(token) < 10 for token in value)
        and all(map(is_bias, value.values()))
    )


# What a request may set, what it may be, and that in words.
OPTIONS: Options = {
    "model": (kind_of(str), "a text"),
    "stream": (kind_of(bool), "true or false"),
    "stream_options": (kind_of(dict), "an object"),
    "prompt_cache": (kind_of(bool), "true or false"),
    "speculate": (kind_of(bool), "true or false"),
    "prompt_cache_bytes": (whole_number(0, 1 << 50), "a whole number of bytes"),
    "parallel_tool_calls": (kind_of(bool), "true or false"),
    "continue_final_message": (kind_of(bool), "true or false"),
    "add_generation_prompt": (kind_of(bool), "true or false"),
    "max_tokens": (whole_number(1, 1 << 31), "a whole number from 1"),
    "max_completion_tokens": (whole_number(1, 1 << 31), "a whole number from 1"),
    "n": (whole_number(1, MOST_CHOICES), f"a whole number from 1 to {MOST_CHOICES}"),
    "seed": (whole_number(-(1 << 63), (1 << 64) - 1), "a whole number"),
    "temperature": (_number(0, 100), "a number from 0 to 100"),
    "top_k": (whole_number(-1, (1 << 31) - 1), "a whole number from -1"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "min_p": (_number(0, 1), "a number from 0 to 1"),
    "repeat_penalty": (_number(0.01, 100), "a number from 0.01 to 100"),
    "presence_penalty": (_number(-100, 100), "a number from -100 to 100"),
    "frequency_penalty": (_number(-100, 100), "a number from -100 to 100"),
    "stop": (_stops, f"a text, or at most {MOST_STOPS} texts, none of them empty"),
    "logprobs": (kind_of(bool), "true or false"),
    "top_logprobs": (whole_number(0, MOST_TOP_LOGPROBS), f"a whole number from 0 to {MOST_TOP_LOGPROBS}"),
    "logit_bias": (
        _biases,
        f"at most {MOST_BIASES} numbers of tokens with a number from -{LOGIT_BIAS_LIMIT:g} to {LOGIT_BIAS_LIMIT:g}",
    ),
    "grammar": (
        lambda value: isinstance(value, str) and 0 < len(value) <= LONGEST_GRAMMAR,
        f"a GBNF of at most {LONGEST_GRAMMAR:,} characters",
    ),
}
SAMPLED = (
    *("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed"),
)
# What other servers do: refused unless it asks for nothing.
NOTHING: Mapping[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "repetition_penalty": (1, 1.0),
}
READ_ELSEWHERE = frozenset({"messages", "tools", "tool_choice", "response_format", "chat_template_kwargs"})
# What clients send along that changes no answer.
IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})


def read(body: bytes) -> ChatRequest:
    """Raises RefusedError (400), which names the field."""
    given = read_fields(body)
    require_known(given, OPTIONS, NOTHING, READ_ELSEWHERE)
    tools = read_tools(given.get("tools"), given.get("tool_choice"))
    grammar = _grammar(given)
    if grammar is not None and tools.choose is not Choose.NONE:
        raise invalid("tools can't be had together with response_format or grammar: set tool_choice to none")
    messages = read_messages(given.get("messages"))
    return ChatRequest(
        messages=messages,
        pictures=pictures_of(given["messages"]),
        variables=_variables(given.get("chat_template_kwargs", {})),
        tools=tools,
        calls_once=not given.get("parallel_tool_calls", True),
        continues=goes_on(
            messages,
            continues=given.get("continue_final_message"),
            adds_prompt=given.get("add_generation_prompt"),
            has_form=grammar is not None or tools.choose is Choose.REQUIRED,
        ),
        **writing_options(given, grammar=grammar, top_logprobs=_top_logprobs(given), limit=_max_tokens(given)),
    )


def writing_options(
    given: Mapping[str, Any], *, grammar: str | None, top_logprobs: int | None, limit: int | None
) -> dict[str, Any]:
    """The fields of a ``WritingRequest``, out of those of a request that were checked; ``limit`` is of tokens."""
    stop = given.get("stop", [])
    seed = given["seed"] & SEED_BITS if "seed" in given else None
    bias = {int(token): float(value) for token, value in given.get("logit_bias", {}).items()}
    options = {name: given[name] for name in SAMPLED if name in given}
    return {
        "sampling": SamplingOptions(
            **{**options, "seed": seed, "logit_bias": bias, "grammar": grammar, "top_logprobs": top_logprobs}
        ),
        "max_tokens": limit,
        "stop": tuple(stop) if isinstance(stop, list) else (stop,),
        "choices": given.get("n", 1),
        "streams": given.get("stream", False),
        "wants_usage": given.get("stream_options", {}).get("include_usage") is True,
        "uses_cache": given.get("prompt_cache", True),
        "speculates": given.get("speculate"),
        "prompt_cache_bytes": given.get("prompt_cache_bytes", 0),
    }


def read_fields(body: bytes) -> dict[str, Any]:
    """The fields that aren't null. Raises RefusedError."""
    try:
        request = json.loads(body)
    except RecursionError as error:
        raise invalid("the body is nested too deeply") from error
    except ValueError as error:
        raise invalid("a JSON body is needed") from error
    if not isinstance(request, dict):
        raise invalid("the body must be an object")
    return {name: value for name, value in request.items() if value is not None}


def require_known(
    given: Mapping[str, Any], options: Options, nothing: Mapping[str, tuple[Any, ...]], read_elsewhere: frozenset[str]
) -> None:
    """Raises RefusedError for a field that isn't what ``options`` say, asks for more than ``nothing`` has, or is in
    none of the three and not in IGNORED."""
    for name, value in given.items():
        if name in options:
            is_valid, words = options[name]
            if not is_valid(value):
                raise invalid(f"{name} must be {words}")
        elif name in nothing:
            if not any(value == harmless and type(value) is type(harmless) for harmless in nothing[name]):
                raise invalid(f"{name} is not supported by this engine")
        elif name in read_elsewhere:
            _require_shallow(name, value)
        elif name not in IGNORED:
            raise invalid(f"{name!a:.80} is not a field that this engine knows")


def _require_shallow(name: str, value: Any) -> None:
    """No more than DEEPEST levels, and no number that JSON doesn't have."""
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise invalid(f"{name} holds a number that is none")
        lists = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in lists for item in items]
        if not level:
            return
    raise invalid(f"{name} is nested too deeply, in more than {DEEPEST} levels")


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    limits = {given[name] for name in ("max_tokens", "max_completion_tokens") if name in given}
    if len(limits) > 1:
        raise invalid("max_tokens and max_completion_tokens are two different numbers")
    return next(iter(limits), None)


def _top_logprobs(given: Mapping[str, Any]) -> int | None:
    top: int = given.get("top_logprobs", 0)
    if not given.get("logprobs", False):
        if top:
            raise invalid("top_logprobs needs logprobs: true")
        return None
    return top


def _grammar(given: Mapping[str, Any]) -> str | None:
    """The GBNF that the answer must follow."""
    form, grammar = given.get("response_format", {"type": "text"}), given.get("grammar")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise invalid("response_format.type must be text, json_object or json_schema")
    if kind == "text":
        return grammar
    if grammar is not None:
        raise invalid("grammar can't be had together with response_format")
    if kind == "json_object":
        return schema.gbnf(form.get("schema", {"type": "object"}), "response_format.schema")
    described = form.get("json_schema")
    if not isinstance(described, dict) or "schema" not in described:
        raise invalid("response_format.json_schema must be an object with a schema")
    return schema.gbnf(described["schema"], "response_format.json_schema.schema")


def _variables(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid("chat_template_kwargs must be an object")
    if taken := sorted(OWN_VARIABLES & value.keys()):
        raise invalid(f"chat_template_kwargs.{taken[0]} can't be set: the engine does")
    return value
