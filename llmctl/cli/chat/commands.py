"""The commands of a chat: lines that begin with a slash, their table, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from llmctl.errors import UsageError

LINE = re.compile(r"/([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)


class Command(Struct, frozen=True):
    """``argument`` is all that stands behind the name, blanks around it removed."""

    name: str
    argument: str


COMMANDS: Mapping[str, tuple[str, str]] = {
    "model": ("[NAME[:QUANT]]", "show what answers, or go on with another model"),
    "task": ("[TASK]", "go on with the model that suits a task, as code"),
    "system": ("[TEXT | off]", "show, set or take away the system message"),
    "file": ("PATH", "put a file before the next prompt"),
    "files": ("INDEX | off", "excerpts of a folder or index before prompts"),
    "image": ("PATH", "put an image before the next prompt"),
    "retry": ("", "ask the last prompt again"),
    "edit": ("", "take the last turn back, and change its prompt"),
    "context": ("[drop NUMBER]", "how full the context is; drop the oldest turns"),
    "summarise": ("", "let the model sum up all but the last turn"),
    "route": ("", "where each turn was answered, and where the next goes"),
    "stats": ("", "tokens, speed and time of the last answer"),
    "save": ("PATH", "write the conversation to a file"),
    "load": ("PATH", "go on with a conversation that was saved"),
    "help": ("", "this list"),
    "quit": ("", "leave (Ctrl-D does, too)"),
}
KEYS = (
    "Enter sends. A new line: Esc then Enter, or \\ at the end of a line. What is pasted goes in as one prompt. Up and "
    "down recall prompts, Tab completes commands, models and files. Ctrl-C stops the answer, and keeps what was "
    "written; twice at the prompt it leaves. A prompt that begins with a slash: put a blank before it."
)


def parse(line: str) -> Command | None:
    """The command that ``line`` is, None if it is a prompt. Raises UsageError for a command that there isn't."""
    match = LINE.fullmatch(line.rstrip())
    if match is None:
        return None
    name = match[1].lower()
    if name not in COMMANDS:
        raise UsageError(f"there is no command /{match[1]}", hint="/help   or a blank before the slash of a prompt")
    return Command(name, (match[2] or "").strip())


def help_lines() -> list[str]:
    """One line for each command, then the keys."""
    shown = {name: f"/{name} {argument}".rstrip() for name, (argument, _) in COMMANDS.items()}
    width = max(map(len, shown.values()))
    return [*(f"  {shown[name]:{width}}  {meaning}" for name, (_, meaning) in COMMANDS.items()), "", KEYS]
