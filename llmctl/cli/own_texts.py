"""A question with excerpts of the user's own texts before it, as commands ask it and show where they are from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.cli.output import Output
from llmctl.errors import ContextError
from llmctl.printable import printable
from llmctl.types.request import Message, Request
from llmctl.units import number_of
from llmctl.workspace import own_texts
from llmctl.workspace import search as use_case
from llmctl.workspace.search import SearchOptions
from llmctl.workspace.truncation import room_for_prompt

if TYPE_CHECKING:
    from llmctl.cli.prompt import Prompt
    from llmctl.settings import Settings
    from llmctl.types.answer import CitedSource
    from llmctl.types.endpoint import Endpoint
    from llmctl.workspace.indexes import NamedIndex
    from llmctl.workspace.own_texts import Excerpts


class CitingPrompt:
    """``prompt`` with excerpts before its question: all of ``excerpts``, and fewer each time that an engine still
    refuses it as too long."""

    def __init__(self, out: Output, prompt: Prompt, excerpts: Excerpts) -> None:
        self._out = out
        self._prompt = prompt
        self.excerpts = excerpts

    @property
    def text(self) -> str:
        """All that is asked."""
        prompt = self._prompt
        if prompt.question.strip():
            return replace(prompt, question=self.excerpts.before(prompt.question)).text()
        return replace(prompt, context="", question=self.excerpts.before(prompt.context)).text()

    def shortened(self, request: Request, error: ContextError) -> Request:
        """``request`` with fewer excerpts. Raises ``error`` where none would be left."""
        before = len(self.excerpts.hits)
        self.excerpts = self.excerpts.fewer(error)
        self._out.note(f"{error.message.partition(';')[0]}: {len(self.excerpts.hits)} of {before} excerpts are left")
        return replace(request, messages=(*request.messages[:-1], Message.of("user", self.text)))

    def is_private(self, settings: Settings) -> bool:
        return own_texts.is_private(self._out, settings, self.excerpts)

    def leaving(self, endpoint: Endpoint, host: str) -> None:
        """Raises PolicyError where the user doesn't want the excerpts to leave."""
        own_texts.require_consent(self._out, self.excerpts, endpoint, host)

    def show(self) -> None:
        for line in source_lines(self.excerpts.sources):
            self._out.note(line)


def citing(
    out: Output,
    settings: Settings,
    prompt: Prompt,
    name: str,
    *,
    context: int | None,
    max_tokens: int | None,
    private: bool,
) -> CitingPrompt:
    """``prompt`` with the best excerpts of the index or folder ``name`` that a ``context`` of so many tokens has room
    for. Raises NotFoundError where nothing there is about it, and what the search raises."""
    index = use_case.current(out, settings, name)
    question = prompt.question if prompt.question.strip() else prompt.context
    excerpts = excerpts_for(out, settings, index, question, private=private)
    rest = len(prompt.text().encode("utf-8", "replace")) // own_texts.BYTES_PER_TOKEN
    room = own_texts.MOST_TOKENS if context is None else room_for_prompt(context, max_tokens) - rest
    return CitingPrompt(out, prompt, excerpts.within(min(room, own_texts.MOST_TOKENS)))


def excerpts_for(out: Output, settings: Settings, index: NamedIndex, question: str, *, private: bool) -> Excerpts:
    """Raises NotFoundError where nothing is about the question, and what the search raises."""
    options = SearchOptions(own_texts.MOST_EXCERPTS, private=private)
    answer = use_case.search(out, settings, index, question, options)
    out.note(f"{index.name}: {number_of(len(answer.results), 'excerpt')} of {number_of(answer.searched, 'passage')}")
    return own_texts.excerpts(index, answer.results, answer.searched, is_about=answer.is_about)


def source_lines(sources: tuple[CitedSource, ...]) -> list[str]:
    """Each with its number, for a person."""
    return [
        f"  [{number}] {printable(source.file)}:{source.from_line}-{source.to_line}  {source.score:.2f}"
        for number, source in enumerate(sources, 1)
    ]
