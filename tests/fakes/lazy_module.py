"""Modules that are imported when something of theirs is used: every worker collects all tests, and runs a part."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class Unloaded(ModuleType):
    """A module whose code runs when a public attribute of it is first asked for.

    importlib's LazyLoader runs it at ``import name`` already, which asks for ``__spec__``.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest and its plug-ins look for their marks on whatever a test module has
            raise AttributeError(name)
        load(self)
        return getattr(self, name)


def load(module: ModuleType) -> None:
    """Runs the code of a module that has its spec."""
    module.__class__ = ModuleType
    assert module.__spec__ is not None and module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)


def on_first_use(name: str) -> None:
    """Makes ``import name`` cheap. Does nothing where it is imported already, or isn't installed."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None:
        module = module_from_spec(spec)
        module.__class__ = Unloaded
        sys.modules[name] = module
