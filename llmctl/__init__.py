"""llmctl: from a bare machine to a private language model that is right for it.

``Workspace`` is the way in for Python programs; ``docs/python.md`` shows it. Importing llmctl loads nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmctl.errors import LlmctlError
    from llmctl.types.answer import Answer
    from llmctl.types.listener import Listener, SilentListener
    from llmctl.types.plan import Fit, NoFit, Plan
    from llmctl.workspace.workspace import Workspace

__version__ = "0.1.0"
__all__ = ["Answer", "Fit", "Listener", "LlmctlError", "NoFit", "Plan", "SilentListener", "Workspace", "__version__"]

_MODULES = {
    "Answer": "llmctl.types.answer",
    "Fit": "llmctl.types.plan",
    "Listener": "llmctl.types.listener",
    "LlmctlError": "llmctl.errors",
    "NoFit": "llmctl.types.plan",
    "Plan": "llmctl.types.plan",
    "SilentListener": "llmctl.types.listener",
    "Workspace": "llmctl.workspace.workspace",
}

if not TYPE_CHECKING:  # for which every name would be one

    def __getattr__(name: str) -> Any:
        """Imports what is asked for when it is asked for."""
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
