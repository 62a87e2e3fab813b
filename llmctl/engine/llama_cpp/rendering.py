"""Writes messages and tools as a model's chat template does, which is a program of the file.

What a template can't do is mended where it can be: a system message in the middle that it refuses or leaves out is
said by the user, one at the beginning stands in front of the user's first message, and a template that is broken is
replaced, with a note for a person. What it leaves out of tools and their answers can't be mended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import jinja2

REASON_LENGTH = 120
NEEDLE = "needle"
GOES_ON = "\ue000"  # a character for private use, which no template takes for a blank or a letter
SYSTEM = ("system", "developer")
SAID = (*SYSTEM, "user", "tool")
SYSTEM_MOVED = "the model's chat template takes no system message: it stands in front of the first message instead"
SYSTEM_SAID = "the model's chat template takes a system message at the beginning only: the user says the others"

Messages = Sequence[Mapping[str, Any]]


class TemplateError(Exception):
    """A template that refuses the messages, or takes too long or too much memory: what it does, for a person."""


class RenderedPrompt(Struct, frozen=True):
    """``is_plain``: the messages' text without any template. ``note`` is for a person."""

    text: str
    is_plain: bool = False
    note: str | None = None


def plain(messages: Messages, *, continues: bool = False) -> str:
    """A base model continues text; dressing its prompt in another family's template only confuses it. What it has
    written itself, the last message where it ``continues``, stands right behind the others."""
    *before, last = (str(message["content"]) for message in messages)
    return "\n\n".join(before) + last if continues else "\n\n".join((*before, last))


def chatml(messages: Messages) -> str:
    """What most models of unknown template understand, if they know its marks."""
    said = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return f"{said}<|im_start|>assistant\n"


CHATML_END = "<|im_end|>\n<|im_start|>assistant\n"
"""What stands in ``chatml`` behind the text of the last message."""


class _RefusalError(Exception):
    """What the template itself says against the messages."""


def written(asked: Mapping[str, Any]) -> RenderedPrompt:
    """The first way of writing the messages that the template takes, and with which it leaves nothing out; up to the
    end of the last message's text where that is to be gone on with. Raises TemplateError, MemoryError."""
    messages, tools, refusal, reason = asked["messages"], asked["tools"] or None, None, "it leaves the prompt out"
    if asked["continues"]:
        messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + GOES_ON}]
    for variant, note in _variants(messages):
        try:
            template = compiled(asked["template"])
            text = template.render({**asked["variables"], **_given(variant, tools)})
        except MemoryError:
            raise
        except _RefusalError as error:
            refusal = _first_line(error)
        except Exception as error:  # noqa: BLE001  # the template is the file's own program and may raise anything
            reason = _first_line(error)
        else:
            if tools is not None and text == _without_tools(template, variant, asked["variables"]):
                raise TemplateError("takes no tools")
            _require_calls(text, variant)
            if _is_complete(template, text, variant, asked["variables"]):
                return RenderedPrompt(_begun(text) if asked["continues"] else text, note=note)
    if refusal is not None:
        raise TemplateError(f"refused: {refusal}")
    if tools is not None or any(_is_of_tools(message) for message in messages):
        raise TemplateError(f"can't be used with tools ({reason})")
    return _replaced(asked, reason)


def _begun(text: str) -> str:
    """The prompt up to the place at which the last message goes on. Raises TemplateError."""
    begun, mark, _ = text.rpartition(GOES_ON)
    if not mark:
        raise TemplateError("leaves out the answer that is to be gone on with")
    return begun


def _is_of_tools(message: Mapping[str, Any]) -> bool:
    return message["role"] == "tool" or "tool_calls" in message


def _without_tools(template: jinja2.Template, messages: Messages, variables: Mapping[str, Any]) -> str | None:
    try:
        return template.render({**variables, **_given(messages, None)})
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # the template is the file's own program and may raise anything
        return None


def _require_calls(text: str, messages: Messages) -> None:
    """Raises TemplateError if the prompt says nothing of a call."""
    called = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
    if any(name not in text for name in called):
        raise TemplateError("takes no messages with tool_calls")


def _replaced(asked: Mapping[str, Any], reason: str) -> RenderedPrompt:
    """The messages without their template, which is broken."""
    form = "ChatML" if asked["has_chatml"] else "plain text"
    note = f"its chat template can't be used ({reason}); the prompt is written as {form} instead"
    messages, continues = asked["messages"], asked["continues"]
    if not asked["has_chatml"]:
        return RenderedPrompt(plain(messages, continues=continues), is_plain=True, note=note)
    text = chatml(messages)
    return RenderedPrompt(text.removesuffix(CHATML_END) if continues else text, note=note)


def _variants(messages: Messages) -> Iterator[tuple[Messages, str | None]]:
    """The messages as they are, with those of the system at the beginning alone, without any, and all of these as lists
    of parts; with a note for each."""
    ways: list[tuple[Messages, str | None]] = [(messages, None)]
    at_beginning = _system_first(messages)
    if any(message["role"] in SYSTEM for message in messages[_leading(messages) :]):
        ways.append((at_beginning, SYSTEM_SAID))
    if any(message["role"] in SYSTEM for message in at_beginning):
        ways.append((_without_system(at_beginning), SYSTEM_MOVED))
    yield from ways
    for way, note in ways:
        yield [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in way], note


def _leading(messages: Messages) -> int:
    """How many of the system they begin with."""
    return next((at for at, message in enumerate(messages) if message["role"] not in SYSTEM), len(messages))


def _system_first(messages: Messages) -> Messages:
    """Those of the system behind the first of another role are the user's, in one with what the user says before or
    behind. Where they stand they stay: what was read of the conversation before is the beginning of this one."""
    leading = _leading(messages)
    turns = [dict(message) for message in messages[:leading]]
    was_system = False
    for message in messages[leading:]:
        is_system = message["role"] in SYSTEM
        role = "user" if is_system else message["role"]
        if turns and turns[-1]["role"] == role == "user" and (is_system or was_system):
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{message['content']}"
        else:
            turns.append({**message, "role": role})
        was_system = is_system
    return turns


def _without_system(messages: Messages) -> Messages:
    system = "\n\n".join(message["content"] for message in messages if message["role"] in SYSTEM)
    others = [dict(message) for message in messages if message["role"] not in SYSTEM]
    first = next((message for message in others if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": system}, *others]
    first["content"] = f"{system}\n\n{first['content']}"
    return others


def _is_complete(template: jinja2.Template, text: str, messages: Messages, variables: Mapping[str, Any]) -> bool:
    """Whether the prompt holds what the system and the user said. A template may change their words, so what seems to
    be missing is looked for with a word that none would change."""
    if all(_text_of(message).strip() in text for message in messages if message["role"] in SAID):
        return True
    marked = [{**message, "content": _with_text(message["content"], NEEDLE)} for message in messages]
    try:
        shown = template.render({**variables, **_given(marked, None)})
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # the template is the file's own program and may raise anything
        return False
    return shown.lower().count(NEEDLE) >= sum(message["role"] in SAID for message in messages)


def _text_of(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _with_text(content: Any, text: str) -> Any:
    return text if isinstance(content, str) else [{"type": "text", "text": text}]


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return "".join(char for char in line if char.isprintable())[:REASON_LENGTH]


def _given(messages: Messages, tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """What every template is given, as the library does that most were written for."""
    from datetime import datetime

    def raise_exception(message: object) -> None:
        raise _RefusalError(message)

    return {
        "messages": messages,
        "add_generation_prompt": True,
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "tools": tools,
        **dict.fromkeys(("functions", "function_call", "tool_choice")),
    }


@lru_cache(maxsize=2)
def compiled(template: str) -> jinja2.Template:
    """Compiled as the transformers library does. Raises whatever jinja2 raises."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationTag(Extension):
        """``{% generation %}`` says which text is the model's, which matters in training only."""

        tags = {"generation"}  # noqa: RUF012  # as the base class has it

        def parse(self, parser: Any) -> Any:
            parser.stream.skip(1)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.BaseLoader(), trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    return environment.from_string(template)
