"""The models, tasks and quantizations that llmctl knows, and models described by their files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmctl.catalogue.profiles import Catalogue, ProfileProblem, candidates, find, load

if TYPE_CHECKING:
    from llmctl.catalogue.knowledge import Knowledge, load_knowledge, task_names
    from llmctl.catalogue.local import from_file, from_header, licence

__all__ = [
    "Catalogue",
    "Knowledge",
    "ProfileProblem",
    "candidates",
    "find",
    "from_file",
    "from_header",
    "licence",
    "load",
    "load_knowledge",
    "task_names",
]

LOADED_WHEN_USED = {
    **dict.fromkeys(("Knowledge", "load_knowledge", "task_names"), "knowledge"),
    **dict.fromkeys(("from_file", "from_header", "licence"), "local"),
}


def __getattr__(name: str) -> Any:
    """Imports what only some commands need when it is used: that takes as long as reading the whole catalogue."""
    if name not in LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LOADED_WHEN_USED[name]}"), name)
