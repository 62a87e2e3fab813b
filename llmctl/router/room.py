"""Whether a prompt is too long for a context, as far as that is sure before its tokens are counted."""

from __future__ import annotations

from llmctl.errors import ContextError
from llmctl.types.request import Request


def require_room(request: Request, context: int, whose: str = "local context") -> None:
    """Raises ContextError, with both numbers, for a prompt with more words than ``context`` has tokens: tokenizers put
    no two words into one token. ``whose`` names the context."""
    words = sum(len(message.text.split()) for message in request.messages)
    if words > context:
        raise ContextError(f"the prompt is at least {words:,} tokens, {whose} is {context:,}")
