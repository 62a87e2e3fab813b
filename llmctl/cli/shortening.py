"""A prompt that is too long, made shorter where the user said from which side; what goes is said."""

from __future__ import annotations

from msgspec.structs import replace

from llmctl.cli.output import Output
from llmctl.cli.prompt import Prompt
from llmctl.errors import ContextError
from llmctl.types.request import Message, Request
from llmctl.workspace.truncation import Dropped, cut, kept_characters


class Shortening:
    """Cuts what stands before the question of ``prompt``, a little more each time that an engine still refuses it."""

    def __init__(self, out: Output, prompt: Prompt, dropped: Dropped) -> None:
        self._out = out
        self._prompt = prompt
        self._dropped = dropped
        self._left = len(prompt.context)
        self.text = prompt.text()  # as it was asked last

    def shortened(self, request: Request, error: ContextError) -> Request:
        """``request`` with less of the context. Raises ``error`` where nothing of it would be left."""
        others = sum(len(message.text) for message in request.messages[:-1]) + len(self._prompt.text(""))
        self._left = kept_characters(self._left, others, error, request.sampling.max_tokens)
        context, before = self._prompt.context, len(self._prompt.context)
        self._out.warn(
            f"{error.message.partition(';')[0]}: {before - self._left:,} of {before:,} characters are dropped, "
            f"the {self._dropped} of what stands before the question"
        )
        self.text = self._prompt.text(cut(context, self._left, self._dropped))
        return replace(request, messages=(*request.messages[:-1], Message.of("user", self.text)))
