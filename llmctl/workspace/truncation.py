"""Context that is too long for a model, made shorter where the user said from which side."""

from __future__ import annotations

import re
from enum import StrEnum

from llmctl.errors import ContextError

COUNTED = re.compile(r"([\d,]+) tokens\D{1,60}([\d,]+)")  # "the prompt is 1,719 tokens, local context is 1,024"
UNCOUNTED_SHARE = 0.6  # of the text is kept where the error doesn't say how much it is too long
MARGIN = 0.97  # tokens are not spread evenly
ROOM_FOR_ANSWER = 512
MOST_ROOM_SHARE = 4  # of a small context a quarter is kept for the answer


class Dropped(StrEnum):
    """The part of a text that goes."""

    HEAD = "head"
    MIDDLE = "middle"
    TAIL = "tail"


def room_for_prompt(context: int, max_tokens: int | None) -> int:
    """Tokens of ``context`` that a prompt may take, so that there is room for an answer."""
    return context - min(max_tokens or ROOM_FOR_ANSWER, context // MOST_ROOM_SHARE)


def cut(text: str, characters: int, dropped: Dropped) -> str:
    """``text`` with ``characters`` of it left, and a mark for the model where the rest was."""
    mark = f"[… {len(text) - characters:,} characters left out …]"
    if dropped is Dropped.HEAD:
        return f"{mark}\n{text[len(text) - characters :]}"
    if dropped is Dropped.TAIL:
        return f"{text[:characters]}\n{mark}"
    head = characters // 2
    return f"{text[:head]}\n{mark}\n{text[len(text) - (characters - head) :]}"


def kept_characters(left: int, others: int, error: ContextError, max_tokens: int | None) -> int:
    """How many of the ``left`` characters of a text may stay beside ``others`` and an answer, by the numbers in the
    engine's ``error``; fewer than ``left`` in any case. Raises ``error`` where nothing would stay."""
    numbers = COUNTED.search(error.message)
    kept = int(left * UNCOUNTED_SHARE)
    if numbers is not None:
        tokens, context = (int(number.replace(",", "")) for number in numbers.groups())
        kept = int((left + others) * room_for_prompt(context, max_tokens) / max(tokens, 1) * MARGIN) - others
    if kept <= 0:
        raise error
    return min(kept, int(left * MARGIN))
