"""Modules that are imported when something of theirs is used: every worker collects all tests, and runs a part."""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec


def on_first_use(name: str) -> None:
    """Makes ``import name`` cheap. Does nothing where it is imported already, or isn't installed."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader = LazyLoader(spec.loader)
    spec.loader = loader
    module = module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
