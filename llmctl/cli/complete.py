"""Completion of values: no engine, no network, and silence instead of errors."""

from __future__ import annotations

import contextlib


def models(incomplete: str) -> list[str]:
    """Catalogue names; after a colon, that model's quants. Reads only these two facts: a Tab is no time for checks."""
    import tomllib

    from llmctl import paths

    found: dict[str, list[str]] = {}
    for folder in (paths.profiles_dir() / "models", paths.overlay_dir()):
        for file in sorted(folder.glob("*.toml")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                for model in tomllib.loads(file.read_text("utf-8"))["model"]:
                    found[str(model["id"])] = [str(one["quant"]) for one in model["file"]]
    name, colon, _ = incomplete.partition(":")
    names = [f"{name}:{quant}" for quant in found.get(name, ())] if colon else list(found)
    return [one for one in names if one.startswith(incomplete)]


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
