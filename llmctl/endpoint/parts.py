"""The words in the fields of a chat's answer, which may hold a text, a part, or a list of parts."""

from __future__ import annotations

from typing import Any

from llmctl.types.event import Reasoning, Text

PART_TEXTS = ("text", "thinking", "reasoning", "content", "summary")
THINKING_PARTS = ("think", "reason", "thought", "summary")  # words in the types of such parts


def first(choices: object) -> dict[str, Any]:
    """The first of the answers that a server gives side by side; nothing where an event is about another."""
    listed = choices if isinstance(choices, list) else []
    return next((choice for choice in listed if isinstance(choice, dict) and not choice.get("index")), {})


def part_of(part: object) -> Text | Reasoning:
    """A part of a content that is a list, or a content that is a text."""
    if not isinstance(part, dict):
        return Text(text_of(part))
    if part.get("thought") is True or any(word in str(part.get("type")) for word in THINKING_PARTS):
        return Reasoning(next((text for name in PART_TEXTS if (text := flat(part.get(name)))), ""))
    return Text(flat(part.get("text")) or flat(part.get("refusal")))


def flat(value: object, nested: int = 4) -> str:
    """The text in a field that may hold a text, a part, or a list of them."""
    if isinstance(value, str):
        return text_of(value)
    if not nested:
        return ""
    if isinstance(value, list):
        return "".join(flat(item, nested - 1) for item in value)
    if isinstance(value, dict):
        return next((text for name in PART_TEXTS if (text := flat(value.get(name), nested - 1))), "")
    return ""


def text_of(value: object) -> str:
    """A string of the stream that can be written anywhere: half a surrogate pair becomes U+FFFD."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else ""
