"""Prompt templates: text files with ``{{input}}`` where the prompt goes."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.errors import NotFoundError, UsageError
from llmctl.workspace import context_files

NAME = re.compile(r"\w[\w.-]*")
INPUT = re.compile(r"\{\{\s*input\s*\}\}")
SUFFIXES = (".md", ".txt")
PROJECT_FOLDER = Path(".llmctl/templates")


def folders() -> tuple[Path, Path]:
    """The user's own, which wins, and the one of the working directory, which is nothing but text."""
    return paths.config_file().parent / "templates", PROJECT_FOLDER


def names() -> list[str]:
    """The templates there are."""
    return sorted({file.stem for folder in folders() for file in folder.glob("*") if file.suffix in SUFFIXES})


class Template(Struct, frozen=True):
    """``is_project`` is whether it came with the working directory."""

    text: str
    is_project: bool

    def filled(self, text: str) -> str:
        """``text`` in its place, or behind the template if it has none."""
        if INPUT.search(self.text) is None:
            return f"{self.text.strip()}\n\n{text}"
        return INPUT.sub(lambda _: text, self.text)


def find(name: str) -> Template:
    """Raises UsageError for what can't be a name, NotFoundError, and what ``context_files.read`` raises."""
    if NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r} is no name of a template: letters, digits, . - and _")
    for folder in folders():
        for suffix in SUFFIXES:
            file = folder / f"{name}{suffix}"
            if file.is_file():
                return Template(context_files.read(str(file)).text, folder == PROJECT_FOLDER)
    available = ", ".join(names()) or "there is none"
    raise NotFoundError(f"there is no template {name} ({available})", hint=f"write {folders()[0] / name}.md")
