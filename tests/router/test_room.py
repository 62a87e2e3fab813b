"""What is surely too long for a context is refused before an engine is loaded."""

from __future__ import annotations

import pytest

from llmctl.errors import ContextError
from llmctl.router.room import require_room
from llmctl.types.request import Message, Request


@pytest.mark.parametrize(("words", "is_refused"), [(512, False), (513, True)])
def test_more_words_than_tokens_do_not_fit(words: int, is_refused: bool) -> None:
    request = Request((Message.of("system", "be brief"), Message.of("user", "a " * (words - 2))))
    if is_refused:
        with pytest.raises(ContextError, match="at least 513 tokens, local context is 512"):
            require_room(request, 512)
    else:
        require_room(request, 512)


def test_text_without_blanks_is_the_engine_s_to_count() -> None:
    require_room(Request.of("漢" * 10000), 512)
