"""Where a person writes: the line editor of a chat, by prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl.cli.chat.commands import COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

PROMPT, CONTINUED = "you › ", "    … "
TAKES_MODEL, TAKES_TASK, TAKES_FILE = ("model",), ("task",), ("file", "files", "image", "save", "load")


class Editor:
    """Reads prompts of one or many lines. ``toolbar`` is what stands below them; ``history_file`` keeps prompts, which
    else are forgotten with the process."""

    def __init__(self, toolbar: Callable[[], str], history_file: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.history import InMemoryHistory

        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=_keys(),
            completer=_completer(),
            complete_while_typing=Condition(lambda: self._session.default_buffer.text.startswith("/")),
            history=InMemoryHistory() if history_file is None else _kept(history_file),
            bottom_toolbar=toolbar,
            prompt_continuation=CONTINUED,
            reserve_space_for_menu=4,
        )

    def read(self, draft: str = "") -> str:
        """The next prompt; ``draft`` stands in it to be changed. Raises EOFError for Ctrl-D, KeyboardInterrupt for
        Ctrl-C."""
        return self._session.prompt(PROMPT, default=draft)


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("escape", "c-j")  # typed while the terminal still made line feeds of Enter
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _kept(file: Path) -> History:
    """History in a file that only its owner may read."""
    from prompt_toolkit.history import FileHistory

    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    file.chmod(0o600)
    return FileHistory(file)


def _completer() -> Completer:
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    from llmctl.cli import complete

    paths = PathCompleter(expanduser=True)

    class Commands(Completer):
        """Names of commands, then what the command takes."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            line = document.text_before_cursor
            if not line.startswith("/") or "\n" in line:
                return
            name, blank, argument = line[1:].partition(" ")
            if not blank:
                for command in COMMANDS:
                    if command.startswith(name):
                        yield Completion(command, -len(name), display=f"/{command}", display_meta=COMMANDS[command][1])
            elif name in TAKES_FILE:
                yield from paths.get_completions(Document(argument), complete_event)
            elif name in (*TAKES_MODEL, *TAKES_TASK):
                values = complete.models(argument) if name in TAKES_MODEL else complete.tasks(argument)
                yield from (Completion(value, -len(argument)) for value in values)

    return Commands()
