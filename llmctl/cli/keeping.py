"""Conversations kept on disk, as commands have it: what can't be kept is a warning, never the end of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.cli.output import Output
from llmctl.errors import LlmctlError, UsageError
from llmctl.printable import printable
from llmctl.shell import command
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.workspace.conversation import Conversation
    from llmctl.workspace.kept_conversations import Keeper, Kept
    from llmctl.workspace.transcript import Begun

SHOWN_CHARACTERS = 40  # of a prompt


def last_conversation(out: Output, settings: Settings, endpoint: str | None) -> Kept:
    """The last conversation, for ``-c``, and a line about it. Raises what ``kept_conversations.last`` raises, and
    UsageError where a server is to answer what was begun with --local."""
    from llmctl.workspace.kept_conversations import last

    kept = last(settings)
    if kept.transcript.begun.local and endpoint is not None:
        raise UsageError(
            f"--endpoint {endpoint}: the conversation was begun with --local, so nothing of it leaves",
            hint=command("llmctl", out.command, "-e", endpoint) + " …   without -c begins a new one",
        )
    turns = kept.transcript.conversation.turns
    last_prompt = f", the last: {printable(turns[-1].prompt, SHOWN_CHARACTERS)}" if turns else ""
    stays = "; it was begun with --local and stays here" if kept.transcript.begun.local else ""
    out.note(f"going on with {number_of(len(turns), 'turn')}{last_prompt}{stays}")
    return kept


def begin(
    kept: Kept | None, model: str | None, task: str | None, system: str | None, *, local: bool
) -> tuple[Conversation, Begun]:
    """The conversation to go on with, and what with; ``system`` stands for the one it had."""
    from llmctl.workspace.conversation import Conversation
    from llmctl.workspace.transcript import Transcript

    transcript = Transcript(Conversation()) if kept is None else kept.transcript
    conversation = transcript.conversation if system is None else replace(transcript.conversation, system=system)
    return conversation, transcript.begun.going_on(model, task, local=local)


class Keeping:
    """Keeps a conversation where the settings want that and it is not private."""

    def __init__(self, out: Output, settings: Settings, *, private: bool, kept: Kept | None = None) -> None:
        """``kept`` is the conversation that goes on."""
        self._out = out
        self._keeper: Keeper | None = None
        if settings.chat_history and not private:
            from llmctl.workspace.kept_conversations import Keeper

            self._keeper = Keeper(kept)
        elif kept is not None:
            out.note("what is private is not kept: the conversation stays on disk as it was")

    def keep(self, conversation: Conversation, begun: Begun) -> None:
        """Writes the conversation as it is now."""
        if self._keeper is None:
            return
        try:
            self._keeper.keep(conversation, begun)
        except LlmctlError as error:
            self._out.warn(f"the conversation is no longer kept: {error.message}")
            self._keeper = None

    def stop(self) -> None:
        """From now on nothing is kept: something private has come into the conversation."""
        self._keeper = None

    def begin_anew(self) -> None:
        """What is kept from now on is another conversation."""
        if self._keeper is not None:
            self._keeper.begin_anew()
