"""Whether a prompt is too long for a context, as far as that is sure before its tokens are counted."""

from __future__ import annotations

from collections.abc import Iterable

from llmctl.errors import ContextError
from llmctl.types.request import Request


def require_room(request: Request, context: int, whose: str = "local context") -> None:
    """Raises ContextError, with both numbers, for a prompt with more words than ``context`` has tokens: tokenizers put
    no two words into one token. ``whose`` names the context."""
    require_room_for((message.text for message in request.messages), context, whose)


def require_room_for(texts: Iterable[str], context: int, whose: str) -> None:
    """As ``require_room``, for a prompt of these texts."""
    words = sum(len(text.split()) for text in texts)
    if words > context:
        raise ContextError(f"the prompt is at least {words:,} tokens, {whose} is {context:,}")
