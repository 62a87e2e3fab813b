"""What a person sees of one answer in a chat."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from llmctl import units
from llmctl.cli.story import Story

if TYPE_CHECKING:
    from llmctl.types.answer import Answer
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.plan import Fit


class ChatStory(Story):
    """Like the story of ``run``; the model is named by the chat, once, and the last line says how full the context
    is."""

    def loaded(self, fit: Fit, engine: LoadedEngine) -> None:
        if not engine.has_chat_template:
            self.out.warn("this is a base model without a chat template: it continues your text")

    def closing_line(self, used: str, answer: Answer) -> None:
        """``used`` and the speed, at the right of the screen."""
        line = f"{used} · {units.tok_s(answer.timings.decode_tok_s)} tok/s"
        if answer.route.endpoint is not None:
            line += f" · {answer.route.endpoint}"
        self.out.note(line.rjust(shutil.get_terminal_size().columns - 1))
