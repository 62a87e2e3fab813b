"""What the worker is asked for: a chat completion's request, every field of it checked, refused by its name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from llmctl.engine.llama_cpp.refused import RefusedError as RefusedError
from llmctl.engine.llama_cpp.refused import invalid as _refused

MOST_STOPS = 16
SEED_BITS = 0xFFFFFFFF
OWN_VARIABLES = frozenset(
    {
        *("messages", "bos_token", "eos_token", "add_generation_prompt", "raise_exception", "strftime_now"),
        *("functions", "function_call", "tools", "tool_choice", "documents"),
    }
)


class ChatRequest(Struct, frozen=True):
    """``sampling`` holds the arguments of ``Llama.generate``, ``variables`` those of the chat template."""

    messages: list[dict[str, str]]
    variables: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


Check = Callable[[Any], bool]


def _number(least: float, most: float) -> Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    )


def _whole(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _stops(value: Any) -> bool:
    given = value if isinstance(value, list) else [value]
    return len(given) <= MOST_STOPS and all(isinstance(text, str) and text for text in given)


# What a request may set, what it may be, and that in words.
OPTIONS: Mapping[str, tuple[Check, str]] = {
    "max_tokens": (_whole(1, 1 << 31), "a whole number from 1"),
    "seed": (_whole(-(1 << 63), (1 << 64) - 1), "a whole number"),
    "temperature": (_number(0, 100), "a number from 0 to 100"),
    "top_k": (_whole(-1, (1 << 31) - 1), "a whole number from -1"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "min_p": (_number(0, 1), "a number from 0 to 1"),
    "repeat_penalty": (_number(0.01, 100), "a number from 0.01 to 100"),
    "presence_penalty": (_number(-100, 100), "a number from -100 to 100"),
    "frequency_penalty": (_number(-100, 100), "a number from -100 to 100"),
    "stop": (_stops, f"a text, or at most {MOST_STOPS} texts, none of them empty"),
}
GENERATE = {  # their names in Llama.generate
    "temperature": "temp",
    **{name: name for name in ("top_k", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")},
}
# What other servers do: refused unless it asks for nothing.
NOTHING: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
}
ELSEWHERE = frozenset({"model", "messages", "stream", "stream_options", "chat_template_kwargs"})


def read(body: bytes) -> ChatRequest:
    """Raises RefusedError (400), which names the field."""
    try:
        request = json.loads(body)
    except RecursionError as error:
        raise _refused("the body is nested too deeply") from error
    except ValueError as error:
        raise _refused("a JSON body is needed") from error
    if not isinstance(request, dict):
        raise _refused("the body must be an object")
    given = {name: value for name, value in request.items() if value is not None}
    for name, value in given.items():
        _require(name, value)
    stop = given.get("stop", [])
    return ChatRequest(
        messages=_messages(given.get("messages")),
        variables=_variables(given.get("chat_template_kwargs", {})),
        sampling={argument: given[name] for name, argument in GENERATE.items() if name in given},
        max_tokens=given.get("max_tokens"),
        seed=given["seed"] & SEED_BITS if "seed" in given else None,
        stop=tuple(stop) if isinstance(stop, list) else (stop,),
    )


def _require(name: str, value: Any) -> None:
    if name in OPTIONS:
        is_valid, words = OPTIONS[name]
        if not is_valid(value):
            raise _refused(f"{name} must be {words}")
    elif name in NOTHING:
        if not any(value == nothing and type(value) is type(nothing) for nothing in NOTHING[name]):
            raise _refused(f"{name} is not supported by this engine")
    elif name not in ELSEWHERE:
        raise _refused(f"{name!a:.80} is not a field that this engine knows")
    elif name == "stream" and value is not True:
        raise _refused("stream must be true: this engine only streams")


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise _refused("messages must be a list of objects that isn't empty")
    return [_message(message, f"messages[{at}]") for at, message in enumerate(value)]


def _message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise _refused(f"{name} must be an object")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise _refused(f"{name}.role must be a text")
    if unknown := [key for key, value in message.items() if key not in ("role", "content", "name") and value]:
        raise _refused(f"{name}.{unknown[0]!a:.80} is not supported by this engine")
    return {"role": role, "content": _content(message.get("content"), f"{name}.content")}


def _content(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _refused(f"{name} must be a text or a list of parts")
    for at, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _refused(f"{name}[{at}] must be a part with a text: this engine reads nothing else")
    return "".join(part["text"] for part in value)


def _variables(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _refused("chat_template_kwargs must be an object")
    if taken := sorted(OWN_VARIABLES & value.keys()):
        raise _refused(f"chat_template_kwargs.{taken[0]} can't be set: the engine does")
    return value
