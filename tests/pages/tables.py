"""Tables that pages have of what the program declares: exit codes, settings, reasons for which a prompt may leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmctl.cli.chat.commands import COMMANDS, KEYS
from llmctl.errors import LlmctlError
from llmctl.settings import SETTINGS
from llmctl.types.endpoint import LeaveReason


def exit_codes() -> list[tuple[int, str]]:
    meanings = {0: "done, also when a private server answered (stderr says so)"}
    kinds: list[type[LlmctlError]] = [LlmctlError, *LlmctlError.__subclasses__()]
    for kind in kinds:
        meanings[kind.exit_code] = kind.meaning
    meanings[129] = "SIGHUP (a terminal that is closed)"
    meanings[130] = "Ctrl-C"
    meanings[141] = "the reader of our output closed it (`llmctl … | head -1`)"
    meanings[143] = "SIGTERM"
    return sorted(meanings.items())


def exit_codes_table() -> str:
    return table(("code", "meaning"), ((str(code), meaning) for code, meaning in exit_codes()))


def settings_table() -> str:
    rows = (
        (
            f"`{setting.name}`",
            " ".join(f"`{name}`" for name in (setting.variable, *setting.also)),
            setting.help,
            "" if setting.default in (None, False, ()) else "true" if setting.default is True else str(setting.default),
            "yes" if setting.project else "no",
        )
        for setting in SETTINGS
    )
    return table(("setting", "variable", "what it does", "default", "in a project file"), rows)


def reasons_to_leave() -> str:
    rows = ((reason.when, reason.decided_by, f"`{reason}`") for reason in LeaveReason)
    return table(("when it leaves", "who decided that", "`left_because`"), rows)


def chat_commands() -> str:
    rows = ((f"`/{name} {argument}".rstrip() + "`", meaning) for name, (argument, meaning) in COMMANDS.items())
    return table(("type", "to"), rows) + f"\n{KEYS}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown. A bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
