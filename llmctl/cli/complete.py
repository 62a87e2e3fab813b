"""Completion of values: no engine, no network, and silence instead of errors."""

from __future__ import annotations


def models(incomplete: str) -> list[str]:
    """Catalogue names; after a colon, that model's quants."""
    from llmctl import paths
    from llmctl.catalogue.profiles import load
    from llmctl.errors import LlmctlError

    try:
        known = load(paths.profiles_dir() / "models", paths.overlay_dir()).models
    except LlmctlError:
        return []
    name, colon, _ = incomplete.partition(":")
    if colon:
        found = [f"{m.id}:{a.quant}" for m in known if m.id == name for a in m.artifacts]
    else:
        found = [m.id for m in known]
    return [one for one in found if one.startswith(incomplete)]


def tasks(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.catalogue.knowledge import task_names

    return [name for name in task_names(paths.profiles_dir()) if name.startswith(incomplete)]


def endpoints(incomplete: str) -> list[str]:
    from llmctl import settings
    from llmctl.errors import LlmctlError

    try:
        return [one.name for one in settings.load().endpoints if one.name.startswith(incomplete)]
    except LlmctlError:
        return []


def machines(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.probe.document import known_machines

    return [name for name in known_machines(paths.profiles_dir() / "machines") if name.startswith(incomplete)]
