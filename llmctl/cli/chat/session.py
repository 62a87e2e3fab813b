"""The session of a chat: prompts, commands and answers until the user leaves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from llmctl import units
from llmctl.cli.chat.commands import parse
from llmctl.cli.chat.echo import unechoed
from llmctl.cli.chat.story import ChatStory
from llmctl.cli.signals import Terminated
from llmctl.cli.terminal import TerminalOutput
from llmctl.errors import ContextError, LlmctlError
from llmctl.types.endpoint import Local, Remote
from llmctl.types.request import ImagePart, Message, Request, Sampling
from llmctl.workspace import context_files
from llmctl.workspace.conversation import Conversation, TokenEstimate, Turn, turns_to_drop
from llmctl.workspace.transcript import Begun
from llmctl.workspace.truncation import room_for_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmctl.cli.chat.editor import Editor
    from llmctl.cli.keeping import Keeping
    from llmctl.types.answer import Answer
    from llmctl.types.plan import Fit
    from llmctl.workspace.chat import Chat
    from llmctl.workspace.context_files import ContextFile
    from llmctl.workspace.indexes import NamedIndex
    from llmctl.workspace.own_texts import Excerpts


class Leave(Exception):
    """The user leaves."""


class Session:
    """``conversation`` is what was said; ``files`` and ``images`` go with the next prompt, excerpts of ``index`` with
    each; ``draft`` stands in the next line."""

    def __init__(
        self, out: TerminalOutput, chat: Chat, conversation: Conversation, sampling: Sampling, keeping: Keeping
    ) -> None:
        self.out = out
        self.chat = chat
        self.conversation = conversation
        self.sampling = sampling
        self.keeping = keeping
        self.files: list[ContextFile] = []
        self.images: list[ImagePart] = []
        self.index: NamedIndex | None = None
        self.draft = ""
        self.estimate = TokenEstimate()
        self.last: Answer | None = None
        self._counted: int | None = None  # tokens of the context after the last answer, as its engine has counted
        self._drops_freely = False
        self._interrupted = False

    def greet(self) -> None:
        """The first line: what answers, how full it gets, how fast it is."""
        route = self.chat.route
        parts = [self.answering]
        if isinstance(route, Local):
            parts += [f"{route.fit.context:,} tokens", f"about {units.tok_s(route.fit.speed.decode_tok_s)} tok/s"]
        self.out.note(" · ".join(parts))

    def until_left(self, history_file: Path | None) -> None:
        """Reads and answers. An error ends a turn, never the session."""
        from llmctl.cli.chat.editor import Editor

        editor = Editor(self.toolbar, history_file)
        while True:
            try:
                self._handle(self._line(editor))
            except (Leave, EOFError):
                return
            except LlmctlError as error:
                self.out.failed(error)
            except Terminated:
                raise
            except (KeyboardInterrupt, typer.Abort):
                self.out.note("stopped")

    def _line(self, editor: Editor) -> str:
        draft, self.draft = self.draft, ""
        try:
            line = editor.read(draft)
        except Terminated:
            raise
        except KeyboardInterrupt:
            if self._interrupted:
                raise Leave from None
            self._interrupted = True
            self.out.note("Ctrl-C again leaves, Ctrl-D does at once")
            return self._line(editor)
        self._interrupted = False
        return line

    def _handle(self, line: str) -> None:
        if not line.strip():
            return
        command = parse(line)
        if command is None:
            self.ask(line.strip())
        else:
            from llmctl.cli.chat.actions import ACTIONS

            ACTIONS[command.name](self, command.argument)

    def ask(self, prompt: str) -> None:
        """Answers ``prompt`` with the files before it, and adds the turn. An answer that is stopped is kept as far as
        it came; after an error the prompt comes back."""
        text = sent = context_files.before(self.files, prompt)
        self.draft = prompt
        excerpts = self._excerpts(text, prompt)
        if excerpts is not None:  # they go with this prompt alone, and are no part of the turn that is kept
            sent = context_files.before(self.files, excerpts.before(prompt))
        while self._has_room(sent):
            story = self._story(self.sampling, excerpts)
            try:
                answer = self._answer(self.conversation.messages(sent, self.images), self.sampling, story)
            except ContextError as error:
                story.end_line()
                if not self._may_drop():
                    raise
                self.out.note(error.message)
                self.estimate = self.estimate.smaller()
            except (LlmctlError, KeyboardInterrupt):
                story.end_line()
                self._keep_partial(text, story)
                raise
            else:
                self._answered(text, sent, answer, story)
                self._show_sources(excerpts)
                return

    def answered(self, messages: Sequence[Message], sampling: Sampling) -> Answer:
        """The answer to ``messages``, shown and added to nothing. Raises what the chat's answer raises."""
        story = self._story(sampling)
        try:
            answer = self._answer(messages, sampling, story)
        except (LlmctlError, KeyboardInterrupt):
            story.end_line()
            raise
        story.ended(answer)
        return answer

    def _excerpts(self, text: str, prompt: str) -> Excerpts | None:
        """Those that go with ``prompt``, as many as there is room for. Raises NotFoundError where nothing is about it,
        and what the search raises."""
        if self.index is None:
            return None
        from llmctl.cli.own_texts import excerpts_for
        from llmctl.workspace import own_texts

        stays = self.chat.private or self.chat.local
        excerpts = excerpts_for(self.out, self.chat.settings, self.index, prompt, private=stays)
        room = own_texts.MOST_TOKENS
        if self.context is not None:
            taken = self.estimate.tokens(self.conversation.messages(text))
            room = min(room, room_for_prompt(self.context, self.sampling.max_tokens) - taken)
        excerpts = excerpts.within(room)
        if not self.chat.private and own_texts.is_private(self.out, self.chat.settings, excerpts):
            self.chat.private = True
            self.keeping.stop()
        return excerpts

    def _show_sources(self, excerpts: Excerpts | None) -> None:
        if excerpts is not None:
            from llmctl.cli.own_texts import source_lines

            for line in source_lines(excerpts.sources):
                self.out.note(line)

    def _story(self, sampling: Sampling, excerpts: Excerpts | None = None) -> ChatStory:
        asks = None
        if excerpts is not None:
            from llmctl.workspace.own_texts import require_consent

            asks = partial(require_consent, self.out, excerpts)
        return ChatStory(self.out, limited=sampling.max_tokens is not None, before_leaving=asks)

    def _answer(self, messages: Sequence[Message], sampling: Sampling, story: ChatStory) -> Answer:
        request = Request(tuple(messages), sampling=sampling, private=self.chat.private)
        with unechoed():
            return self.chat.answer(request, story, story.so_far)

    def go_on_with(self, conversation: Conversation) -> None:
        """Another conversation, or another part of it, is what the next prompt goes with."""
        self.conversation, self._counted = conversation, None

    def _answered(self, text: str, sent: str, answer: Answer, story: ChatStory) -> None:
        """``text`` is what is kept of what was ``sent``."""
        if (counted := answer.usage.prompt_tokens) is not None:
            self.estimate = TokenEstimate.measured(self.conversation.messages(sent), counted)
            self._counted = counted + (answer.usage.completion_tokens or 0) if sent == text else None
        turn = Turn(text, answer.text, True, answer.route.endpoint, tuple(self.images))
        self.conversation = self.conversation.with_turn(turn)
        self.files, self.images, self.draft, self.last = [], [], "", answer
        self._keep()
        story.ended(answer)
        story.closing_line(self.used, answer)

    def _keep_partial(self, text: str, story: ChatStory) -> None:
        """Adds what was written of an answer; if nothing was, the prompt comes back."""
        if written := "".join(story.so_far.text):
            turn = Turn(text, written, False, story.endpoint, tuple(self.images))
            self.go_on_with(self.conversation.with_turn(turn))
            self.files, self.images, self.draft = [], [], ""
            self._keep()
            self.out.note("what was written so far stays in the conversation")

    def _keep(self) -> None:
        asked = self.chat.asked
        self.keeping.keep(self.conversation, Begun().going_on(asked.model, asked.task, local=self.chat.local))

    @property
    def context(self) -> int | None:
        """Tokens of the model here, None where a server answers."""
        return self.chat.fit.context if self.chat.fit is not None and isinstance(self.chat.route, Local) else None

    @property
    def used(self) -> str:
        """``312 of 8,192 tokens``; an estimate says "about"."""
        tokens, about = self._counted, ""
        if tokens is None:
            tokens = self.estimate.tokens(self.conversation.messages())
            about = "about " if tokens else ""
        return f"{about}{tokens:,} tokens" if self.context is None else f"{about}{tokens:,} of {self.context:,} tokens"

    def tokens_of(self, turn: Turn) -> int:
        """About how many tokens a turn takes: its share of those that were counted, if they were."""
        tokens = self.estimate.tokens(Conversation(turns=(turn,)).messages())
        if self._counted is None:
            return tokens
        return round(tokens * self._counted / max(self.estimate.tokens(self.conversation.messages()), 1))

    def toolbar(self) -> str:
        """How full the context is, then what answers, which a narrow screen may cut."""
        number = len(self.files) + len(self.images)
        files = [f"{number} of your files before the next prompt"] if number else []
        files += [] if self.index is None else [f"excerpts of {self.index.name} before each"]
        return " · ".join([self.used, *files, self.answering, "/help"])

    @property
    def answering(self) -> str:
        """``qwen3.5-9b Q4_K_M · this machine``"""
        route = self.chat.route
        if isinstance(route, Remote):
            return f"{route.endpoint.model} · {route.endpoint.name}"
        return f"{name_of(route.fit)} · this machine"

    def _may_drop(self) -> bool:
        return bool(self.conversation.sent) and self.context is not None

    def _has_room(self, text: str) -> bool:
        """Whether the prompt fits, old turns dropped with consent if need be. Raises ContextError for one that doesn't
        fit without any. What a server may take is left to the router."""
        if self.context is None or self.chat.hands_over_long_prompts:
            return True
        room = room_for_prompt(self.context, self.sampling.max_tokens)
        number = turns_to_drop(self.conversation, text, room, self.estimate)
        needed = self.estimate.tokens(self.conversation.messages(text))
        if number is None and not self.conversation.sent:
            return True  # the estimate may be wrong: the engine counts
        if number == 0:
            return True
        return self._drop(len(self.conversation.sent) if number is None else number, needed, room)

    def _drop(self, number: int, needed: int, room: int) -> bool:
        """Drops ``number`` of the oldest turns if the user agrees, now or before. It is always said."""
        shorter = self.conversation.dropping(number)
        freed = self.estimate.tokens(self.conversation.messages()) - self.estimate.tokens(shorter.messages())
        turns = f"the oldest of {len(self.conversation.sent)} turns" if number == 1 else f"the {number} oldest turns"
        fits = f"With this prompt the conversation has about {needed:,} tokens, {room:,} fit beside an answer."
        if not self._drops_freely:
            self.out.note(fits)
            if not self.out.confirm(f"Drop {turns} (about {freed:,} tokens), and later ones as needed?", yes=False):
                self.out.note(
                    "Nothing was sent. /summarise, /context drop NUMBER, /model or llmctl chat --context make room."
                )
                return False
            self._drops_freely = True
        self.out.note(f"dropped {turns}, about {freed:,} tokens: the model no longer sees them")
        self.go_on_with(shorter)
        return True


def name_of(fit: Fit) -> str:
    return f"{fit.candidate.model.id} {fit.candidate.artifact.quant}"
